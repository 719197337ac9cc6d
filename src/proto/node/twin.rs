//! Another process under this node's own id.
//!
//! A hello proves nothing: it can be a recording of an earlier run of this node. It is answered, and a live
//! process that gets the answer echoes it in a frame that is sealed to this run. Only such an echo is a conflict.

use std::net::SocketAddr;
use std::time::Duration;

use super::Node;
use super::receive::Frame;
use super::relay::Budget;
use super::send::{AnswerLength, Asked, Question};
use crate::proto::messages::Message;
use crate::proto::records::Digest;
use crate::proto::seal::{FrameKind, Header};
use crate::proto::session::WELCOMES;
use crate::proto::stats::Reject;

/// What is exchanged with other processes under this node's own id.
#[derive(Debug, Default)]
pub(super) struct Twin {
    /// The number of the next frame to such a process.
    next: u64,
    /// An echo of an earlier number tells of no new conflict.
    floor: u64,
    answered: Budget,
}

impl Node {
    /// A frame under this node's own id, of another run.
    pub(super) fn receive_from_twin(&mut self, frame: Frame<'_>) -> Result<(), Reject> {
        match frame.header.kind {
            FrameKind::Hello => self.receive_twin_hello(frame),
            FrameKind::Bound => self.receive_twin_frame(frame),
        }
    }

    fn receive_twin_hello(&mut self, mut frame: Frame<'_>) -> Result<(), Reject> {
        let (key, Header { sender, instance, number, .. }) = (frame.key, frame.header);
        let body = self.open_hello(&mut frame)?;
        self.read_hello(key, sender, body)?;
        // After a stall it is old: a process that is alive asks again.
        if self.late_to.is_some() || !self.may_answer_twin() {
            return Err(Reject::Replay);
        }
        let question = frame.question(Asked::Hello(sender, instance, number));
        let (next, welcome) = (self.next_to_twin(), self.welcome(number));
        self.queue_answer(self.me, next, &question, (sender, instance), &welcome);
        Ok(())
    }

    fn receive_twin_frame(&mut self, frame: Frame<'_>) -> Result<(), Reject> {
        let Header { sender, instance, number, .. } = frame.header;
        let key = self.ring.frame_key(frame.key, (sender, instance), (sender, self.instance));
        let message = Message::decode(key.open_in_place(frame.bytes, frame.header_len, number)?)?;
        let echoed = message.echo().and_then(|(echo, _)| echo.checked_sub(1)).ok_or(Reject::Own)?;
        if matches!(message, Message::Welcome { .. }) {
            let to = self.hello_went_to(echoed).ok_or(Reject::Own)?;
            // The other process hears of the conflict too, if it is where the hello went.
            if to == frame.from && self.may_answer_twin() {
                let question =
                    Question { len: usize::MAX, ..frame.question(Asked::Ping(AnswerLength::Small)) };
                let pong = Message::Pong { echo: number + 1, hold: 0, digest: Digest::default() };
                let next = self.next_to_twin();
                self.queue_answer(self.me, next, &question, (sender, instance), &pong);
            }
        } else if !(self.twin.floor..self.twin.next).contains(&echoed) {
            return Err(Reject::Own);
        }
        self.twin.floor = self.twin.next;
        let why = format!(
            "another process speaks under this node's own id {} from {}; this one listens on {}",
            self.config.server_id, frame.from, self.config.listen_address
        );
        self.tell_conflict(frame.from, why);
        Ok(())
    }

    fn may_answer_twin(&mut self) -> bool {
        self.twin.answered.take(WELCOMES as usize, self.now, Duration::from_secs(1))
    }

    fn next_to_twin(&mut self) -> u64 {
        self.twin.next += 1;
        self.twin.next - 1
    }

    /// Where hello `number` of this run went, if that is still remembered.
    fn hello_went_to(&self, number: u64) -> Option<SocketAddr> {
        self.sessions.iter().find_map(|session| Some(session.sent(session.hello(number)?)?.to))
    }
}
