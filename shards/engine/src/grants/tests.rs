use super::*;

fn grant(owner: u8, from: Prefix, at: Instant, left: u64) -> Reservation {
    let owner = PeerId([owner; 32]);
    let (locator, void) = (Locator([9; 32]), UnixTime(1_000));
    let (spent, promised, touched) = (1, left, at);
    let (ends, life) = (at + GRANT_LIFETIME, Life::Live);
    Reservation { owner, from, locator, spent, promised, left, touched, ends, void, life }
}

fn nonce(number: usize) -> Nonce {
    (number as u128).to_le_bytes()
}

fn caller(core: u8, number: u64) -> Caller {
    Caller { core: CoreId(core), number }
}

fn fill(from: impl Fn(usize) -> (u8, Prefix)) -> (Grants, Instant) {
    let (mut grants, now) = (Grants::default(), Instant::now());
    for number in 0..GRANTS_MAX {
        let (owner, from) = from(number);
        let at = now + Duration::from_millis(number as u64);
        assert_eq!(grants.remember(nonce(number), grant(owner, from, at, 1)), None);
    }
    (grants, now)
}

#[test]
fn many_identities_of_one_network_make_room_themselves() {
    let (crowd, other) = (Prefix(Some([1; 6])), Prefix(Some([2; 6])));
    // Sixteen identities of one network, and before them two grants of somebody else.
    let from = |number| if number < 2 { (99, other) } else { (number as u8 % 16, crowd) };
    let (mut grants, now) = fill(from);
    let forgotten = grants.remember(nonce(GRANTS_MAX), grant(99, other, now, 1)).unwrap();
    assert_eq!((forgotten.from, forgotten.touched), (crowd, now + Duration::from_millis(2)));
    assert_eq!(grants.len(), GRANTS_MAX);
    assert_eq!(grants.live_of(&PeerId([99; 32])), 3);
}

#[test]
fn peers_of_this_machine_are_told_apart() {
    let here = Prefix(None);
    let (mut grants, now) = fill(|number| (u8::from(number > 10), here));
    let forgotten = grants.remember(nonce(GRANTS_MAX), grant(7, here, now, 1)).unwrap();
    assert_eq!(forgotten.owner, PeerId([1; 32]));
}

#[test]
fn one_that_nothing_is_set_aside_for_makes_room_first() {
    let (mut grants, now) = fill(|_| (1, Prefix(None)));
    let later = now + Duration::from_secs(3600);
    grants.change(&nonce(500), |grant| {
        (grant.left, grant.promised, grant.touched) = (0, 0, later);
        grant.life = Life::Released;
    });
    let forgotten = grants.remember(nonce(GRANTS_MAX), grant(7, Prefix(None), now, 1)).unwrap();
    assert_eq!(forgotten.touched, later);
}

#[test]
fn a_grant_lapses_a_minute_after_its_last_connection_or_when_it_ends() {
    let (mut grants, now) = (Grants::default(), Instant::now());
    assert_eq!(grants.remember(nonce(1), grant(1, Prefix(None), now, 5)), None);
    grants.touch(&nonce(1), caller(0, 1), now, |_| {});
    grants.touch(&nonce(1), caller(1, 1), now, |_| {});
    assert_eq!(grants.next_lapsed(now + GRANT_LIFETIME - Duration::from_secs(1)), None);
    assert_eq!(grants.next_lapsed(now + GRANT_LIFETIME), Some(nonce(1)));
    let later = now + Duration::from_secs(3600);
    assert!(grants.caller_ended(caller(0, 1), later).is_empty());
    assert!(grants.caller_ended(caller(0, 1), later).is_empty());
    assert_eq!(grants.caller_ended(caller(1, 1), later), [nonce(1)]);
    assert_eq!(grants.next_lapsed(later + RESERVATION_IDLE - Duration::from_secs(1)), None);
    assert_eq!(grants.next_lapsed(later + RESERVATION_IDLE), Some(nonce(1)));
    // Whoever comes back in time keeps it.
    grants.touch(&nonce(1), caller(0, 2), later + Duration::from_secs(59), |_| {});
    assert_eq!(grants.next_lapsed(later + RESERVATION_IDLE), None);
}

#[test]
fn connections_and_grants_know_of_each_other_in_bounded_numbers() {
    let (mut grants, now) = (Grants::default(), Instant::now());
    for number in 0..2 * GRANTS_PER_CALLER_MAX {
        assert_eq!(grants.remember(nonce(number), grant(1, Prefix(None), now, 5)), None);
        grants.touch(&nonce(number), caller(0, 1), now, |_| {});
    }
    for number in 0..2 * CALLERS_PER_GRANT_MAX as u64 {
        grants.touch(&nonce(0), caller(1, number), now, |_| {});
    }
    assert_eq!(grants.known[&nonce(0)].callers.len(), CALLERS_PER_GRANT_MAX);
    assert_eq!(grants.by_caller[&caller(0, 1)].len(), GRANTS_PER_CALLER_MAX);
    let ended = grants.caller_ended(caller(0, 1), now);
    assert_eq!(ended.len(), GRANTS_PER_CALLER_MAX - 1, "the first has others");
    // One whose connections are not known lapses when it is not touched.
    assert!(grants.next_lapsed(now + RESERVATION_IDLE).is_some());
}

#[test]
fn objects_with_a_live_grant_are_listed_once_each() {
    let (mut grants, now) = (Grants::default(), Instant::now());
    for (number, object) in [(1, 1), (2, 1), (3, 2), (4, 3)] {
        let grant = grant(u8::from(number == 4), Prefix(None), now, 5);
        let grant = Reservation { locator: Locator([object; 32]), ..grant };
        assert_eq!(grants.remember(nonce(number), grant), None);
    }
    let owner = PeerId([0; 32]);
    assert_eq!(grants.objects_of(owner), [Locator([1; 32]), Locator([2; 32])]);
    assert_eq!(grants.of_object(owner, Locator([1; 32])), [nonce(1), nonce(2)]);
    for number in [1, 3] {
        grants.change(&nonce(number), |grant| grant.life = Life::Released);
    }
    assert_eq!(grants.objects_of(owner), [Locator([1; 32])]);
}

#[test]
fn one_that_has_ended_is_forgotten_when_the_wall_agrees() {
    let (mut grants, now) = (Grants::default(), Instant::now());
    assert_eq!(grants.remember(nonce(1), grant(1, Prefix(None), now, 0)), None);
    let later = now + GRANT_LIFETIME;
    grants.forget_ended(later - Duration::from_secs(1), UnixTime(5_000));
    assert_eq!(grants.len(), 1);
    grants.forget_ended(later, UnixTime(999));
    assert_eq!(grants.len(), 1, "the wall's clock was set back");
    grants.forget_ended(later, UnixTime(1_000));
    assert_eq!(grants.len(), 1, "it is looked at again later");
    grants.forget_ended(later + GRANT_LIFETIME, UnixTime(1_000));
    assert_eq!(grants.len(), 0);
    assert!(grants.of_party.is_empty() && grants.by_size.is_empty() && grants.ends.is_empty());
    assert!(grants.lapses.is_empty() && grants.live_of.is_empty() && grants.by_object.is_empty());
}
