//! What a link loses, told from sequence numbers and echoes.

/// The last 64 outcomes of something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Window {
    /// Bit 0 is the newest.
    bits: u64,
    len: u32,
}

impl Window {
    pub(crate) fn push(&mut self, outcome: bool) {
        self.bits = self.bits << 1 | u64::from(outcome);
        self.len = (self.len + 1).min(64);
    }

    /// How many of them are true.
    pub(crate) fn count(&self) -> u32 {
        self.bits.count_ones()
    }

    /// How many there are, at most 64.
    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    /// The share that is true; `None`: there are none.
    pub(crate) fn share(&self) -> Option<f64> {
        (self.len > 0).then(|| f64::from(self.count()) / f64::from(self.len))
    }
}

/// Tries of a heartbeat, and what relays and answers may add.
const SILENCE: u64 = 6;

/// Which of what this node sent to a peer was lost on the way, as far as echoes tell.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sent {
    window: Window,
}

impl Sent {
    /// The peer echoed a datagram for the first time: `unechoed` sent before it were not echoed, while `unseen`
    /// datagrams of the peer were lost, which may have been their echoes. `busy`: the peer was slow to answer, and
    /// echoed only the newest of all that it had received. More in a row than a heartbeat has tries are no loss but a
    /// silence, which the status tells of.
    pub(crate) fn echoed(&mut self, unechoed: u64, unseen: u64, busy: bool) {
        if unechoed > SILENCE {
            return;
        }
        let lost = if busy { 0 } else { unechoed.saturating_sub(unseen) };
        for n in 0..unechoed {
            self.window.push(n < lost);
        }
        self.window.push(false);
    }

    pub(crate) fn share(&self) -> Option<f64> {
        self.window.share()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_forgets() {
        let mut window = Window::default();
        assert_eq!(window.share(), None);
        (0..100).for_each(|n| window.push(n % 4 == 0));
        assert_eq!((window.count(), window.len(), window.share()), (16, 64, Some(0.25)));
        (0..64).for_each(|_| window.push(false));
        assert_eq!(window.share(), Some(0.0));
    }

    #[test]
    fn a_lost_answer_is_no_lost_question() {
        let mut sent = Sent::default();
        sent.echoed(0, 0, false);
        sent.echoed(1, 1, false);
        assert_eq!(sent.share(), Some(0.0), "the answer to it was lost");
        sent.echoed(1, 0, false);
        assert_eq!(sent.share(), Some(1.0 / 5.0));
        sent.echoed(2, 0, true);
        assert_eq!(sent.share(), Some(1.0 / 8.0), "a busy peer lost nothing");
    }
}
