//! Holders that take their time.

use std::time::Duration;

use super::body::{Body, Habits};
use super::holder::{Asked, Desk, Vice};
use super::talk::{Hearing, Saying};

/// How often somebody who does nothing shows that he lives.
const SIGN_OF_LIFE: Duration = Duration::from_secs(1);

/// Takes a put byte by byte, out of the smallest window.
pub(super) struct Dripper;

impl Vice for Dripper {
    fn habits(&self) -> Habits {
        Habits { window: Some(8 << 10), keep_alive: Some(SIGN_OF_LIFE), ..Habits::HONEST }
    }

    fn hearing(&mut self, desk: &mut Desk<'_>, asked: &Asked) -> Hearing {
        if !asked.is_put() {
            return Hearing::Freely;
        }
        desk.body.did("puts taken drop by drop");
        Hearing::Drip(1)
    }

    fn answer(&mut self, _: &mut Desk<'_>, _: &Asked, honest: Saying) -> Saying {
        honest
    }
}

/// Stores, and gives byte by byte.
pub(super) struct DripFeeder;

impl Vice for DripFeeder {
    fn answer(&mut self, desk: &mut Desk<'_>, asked: &Asked, mut honest: Saying) -> Saying {
        if matches!(asked, Asked::GetShard { .. }) {
            honest.pace = Some(1);
            desk.body.did("shards given drop by drop");
        }
        honest
    }
}

/// Takes a put and then does nothing at all.
pub(super) struct Staller;

impl Vice for Staller {
    fn hearing(&mut self, desk: &mut Desk<'_>, asked: &Asked) -> Hearing {
        if !asked.is_put() {
            return Hearing::Freely;
        }
        desk.body.did("puts left standing");
        Hearing::Never
    }

    fn answer(&mut self, _: &mut Desk<'_>, _: &Asked, honest: Saying) -> Saying {
        honest
    }
}

/// Stores, and never answers who wants it back.
pub(super) struct Mute;

impl Vice for Mute {
    fn hearing(&mut self, desk: &mut Desk<'_>, asked: &Asked) -> Hearing {
        if !asked.is_fetch() {
            return Hearing::Freely;
        }
        desk.body.did("fetches left without an answer");
        Hearing::Never
    }

    fn answer(&mut self, _: &mut Desk<'_>, _: &Asked, honest: Saying) -> Saying {
        honest
    }
}

/// Takes all that it is sent into the widest window, shows life, and reads nothing.
pub(super) struct Hoarder;

impl Vice for Hoarder {
    fn habits(&self) -> Habits {
        Habits { window: Some(16 << 20), keep_alive: Some(SIGN_OF_LIFE), ..Habits::HONEST }
    }

    fn hearing(&mut self, desk: &mut Desk<'_>, asked: &Asked) -> Hearing {
        if !matches!(asked, Asked::PutShard { .. }) {
            return Hearing::Freely;
        }
        desk.body.did("puts hoarded in windows");
        Hearing::Never
    }

    fn answer(&mut self, _: &mut Desk<'_>, _: &Asked, honest: Saying) -> Saying {
        honest
    }
}

/// Speaks another protocol than everybody.
pub(super) struct Foreigner;

impl Vice for Foreigner {
    fn habits(&self) -> Habits {
        Habits { alpn: b"pangea/999", ..Habits::HONEST }
    }

    fn answer(&mut self, _: &mut Desk<'_>, _: &Asked, honest: Saying) -> Saying {
        honest
    }

    fn rejected(&mut self, body: &mut Body) {
        body.did("connections not understood");
    }
}
