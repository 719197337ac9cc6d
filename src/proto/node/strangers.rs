//! Strangers: who speaks under the cluster's key and is not in the roster. They are told to the operator, and not answered.

use std::net::SocketAddr;
use std::time::Duration;

use super::Node;
use super::receive::Frame;
use crate::proto::messages::Message;
use crate::proto::seal::{FrameKind, Header, Tag};
use crate::proto::server_id::ServerId;
use crate::proto::snapshot::StrangerView;
use crate::proto::stats::Reject;
use crate::proto::timer::Time;

/// The most that are known; who was not heard for longest makes room.
const STRANGERS: usize = 8;
/// Who is silent for so long has gone.
const GONE: Duration = Duration::from_secs(600);

/// One of them.
#[derive(Debug)]
pub(super) struct Stranger {
    tag: Tag,
    /// By its own word, which only a hello carries.
    server_id: Option<ServerId>,
    address: SocketAddr,
    heard: Time,
}

impl Node {
    /// A frame whose sender is not in the roster.
    pub(super) fn note_stranger(&mut self, mut frame: Frame<'_>) -> Reject {
        let (tag, address) = (frame.header.sender, frame.from);
        let Some(told) = self.open_of_stranger(&mut frame) else { return Reject::Sender };
        let known = self.strangers.iter().position(|known| known.tag == tag);
        let known = known.map(|at| self.strangers.remove(at));
        if self.strangers.len() == STRANGERS {
            self.strangers.remove(0);
        }
        let server_id = told.or(known.and_then(|known| known.server_id));
        self.strangers.push(Stranger { tag, server_id, address, heard: self.now });
        Reject::Sender
    }

    /// Its id, if the frame is a hello; `None`: the seal does not hold, or it is not what it says.
    fn open_of_stranger(&self, frame: &mut Frame<'_>) -> Option<Option<ServerId>> {
        let Header { kind, sender, instance, number, .. } = frame.header;
        if kind == FrameKind::Hello {
            let key = frame.key;
            let Ok(Message::Hello { server_id, .. }) = Message::decode(self.open_hello(frame).ok()?) else {
                return None;
            };
            return (self.ring.tag(key, server_id.as_str()) == sender).then_some(Some(server_id));
        }
        let me = (self.own_tags[frame.key], self.instance);
        let key = self.ring.frame_key(frame.key, (sender, instance), me);
        key.open_in_place(frame.bytes, frame.header_len, number).ok().map(|_| None)
    }

    /// Those heard lately, the newest last.
    pub(super) fn strangers(&self, now: Time) -> Vec<StrangerView> {
        let lately = self.strangers.iter().filter(|known| now.since(known.heard) < GONE);
        let view = |known: &Stranger| StrangerView {
            server_id: known.server_id.as_ref().map(|id| id.as_str().into()),
            address: known.address,
            heard: known.heard,
        };
        lately.map(view).collect()
    }
}
