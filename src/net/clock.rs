//! The only place that reads a clock.

use std::time::SystemTime;

use crate::proto::Time;

/// The clock of the shell: CLOCK_BOOTTIME on Linux (it counts the time that the machine was suspended).
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock;

impl Clock {
    /// The time now, never going backwards.
    pub fn now(&self) -> Time {
        todo!()
    }
    /// The wall-clock time of `t`, by the offset between the clocks at this moment.
    pub fn wall(&self, _t: Time) -> SystemTime {
        todo!()
    }
    /// The wall-clock time now.
    pub fn wall_now(&self) -> SystemTime {
        todo!()
    }
}
