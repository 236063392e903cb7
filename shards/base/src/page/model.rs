//! The free list that threads share, under every order of memory accesses that the memory model
//! allows (loom). Run with
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test -p pangea-base --release --target-dir target/loom
//! ```
//!
//! Two pages, two or three threads, and no bound on the switches between them, so that what holds
//! here holds for this size altogether. The list is the pool's own; nothing stands in for it. That
//! a page has one owner at a time is seen by loom: it knows each read and write of a page's bytes
//! (`Slab::read`, `Slab::written`) and reports one that all before it do not lie before.

use std::sync::Arc;

use loom::sync::atomic::Ordering;
use loom::thread;

use crate::watched::{AtomicU32, AtomicU64, AtomicUsize};

use super::{NONE, NoPage, Page, PagePool};

const PAGES: u32 = 2;

/// Runs `scenario` in all its orders, and says how many there were.
fn model(name: &str, scenario: impl Fn() + Send + Sync + 'static) {
    let orders = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let counted = orders.clone();
    loom::model::Builder::new().check(move || {
        counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        scenario();
    });
    println!("{name}: {} orders", orders.load(std::sync::atomic::Ordering::Relaxed));
}

fn pool() -> PagePool {
    PagePool::new(super::PAGE_ALIGN, PAGES)
}

/// Takes a page, uses it and gives it back. False: none was free.
fn use_one(pool: &PagePool) -> bool {
    let Ok(mut page) = pool.take() else { return false };
    page.extend(b"mine");
    assert_eq!(&page[..], b"mine");
    true
}

/// Nothing is out, and each page can be taken once.
fn assert_whole(pool: &PagePool) {
    assert_eq!(pool.available(), PAGES, "the count of free pages is wrong");
    let mut pages: Vec<Page> = (0..PAGES).map(|_| pool.take().expect("a page leaked")).collect();
    pages.sort_by_key(|page| page.index);
    pages.dedup_by_key(|page| page.index);
    assert_eq!(pages.len(), PAGES as usize, "a page is there twice");
    assert_eq!(pool.take().map(|_| ()), Err(NoPage), "there are more pages than the pool has");
    drop(pages);
    assert_eq!(pool.available(), PAGES);
}

#[test]
fn two_threads_that_take_and_return_never_share_a_page() {
    model("take and return", || {
        let pool = pool();
        // One page was used, one never, so that both ways to a page are gone.
        assert!(use_one(&pool));
        let theirs = pool.clone();
        let other = thread::spawn(move || {
            // Two pages, two threads with one each: nobody can be refused.
            assert!(use_one(&theirs));
        });
        assert!(use_one(&pool));
        other.join().unwrap();
        assert_whole(&pool);
    });
}

#[test]
fn a_page_that_went_and_came_back_is_not_mistaken_for_one_that_stayed() {
    model("went and came back", || {
        let pool = pool();
        let (one, two) = (pool.take().unwrap(), pool.take().unwrap());
        drop(two);
        drop(one);
        let theirs = pool.clone();
        let other = thread::spawn(move || {
            // The first page goes, the one beneath goes and stays away, the first comes back: who
            // looked before would now take the second away from us.
            let first = theirs.take();
            let mut second = theirs.take();
            drop(first);
            if let Ok(page) = &mut second {
                page.extend(b"kept");
            }
            second
        });
        let mut mine = pool.take();
        if let Ok(page) = &mut mine {
            page.extend(b"mine");
        }
        let kept = other.join().unwrap();
        let held = [&mine, &kept].into_iter().flatten().count() as u32;
        assert_eq!(pool.available(), PAGES - held);
        drop((mine, kept));
        assert_whole(&pool);
    });
}

#[test]
fn pages_that_come_back_from_another_thread_are_whole_and_used_again() {
    model("return from another thread", || {
        let pool = pool();
        let (mut one, mut two) = (pool.take().unwrap(), pool.take().unwrap());
        one.extend(b"given away");
        let away = thread::spawn(move || {
            assert_eq!(&one[..], b"given away");
            one.extend(b", and written");
        });
        two.extend(b"mine");
        drop(two);
        // One is free for certain, and perhaps both.
        assert!(use_one(&pool));
        assert!((1..=2).contains(&pool.available()));
        away.join().unwrap();
        assert_whole(&pool);
    });
}

#[test]
fn three_threads_that_return_at_once_lose_no_page() {
    model("three return", || {
        let pool = pool();
        let (mut one, mut two) = (pool.take().unwrap(), pool.take().unwrap());
        let first = thread::spawn(move || one.extend(b"one"));
        let second = thread::spawn(move || two.extend(b"two"));
        // None, or the one that came back first.
        let _ = use_one(&pool);
        first.join().unwrap();
        second.join().unwrap();
        assert_whole(&pool);
    });
}

#[test]
fn more_threads_than_pages_are_refused_and_share_nothing() {
    model("more threads than pages", || {
        let pool = pool();
        // One page is out for good, so that two threads are one too many.
        let kept = pool.take().unwrap();
        let theirs = pool.clone();
        let other = thread::spawn(move || use_one(&theirs));
        let mine = use_one(&pool);
        let theirs = other.join().unwrap();
        assert!(mine || theirs, "the last page was given to nobody");
        drop(kept);
        assert_whole(&pool);
    });
}

#[test]
fn a_page_that_comes_back_while_another_is_trimmed_is_not_lost() {
    model("trim and return", || {
        let pool = pool();
        let (one, two) = (pool.take().unwrap(), pool.take().unwrap());
        drop(two);
        let returns = thread::spawn(move || drop(one));
        pool.trim();
        returns.join().unwrap();
        assert_whole(&pool);
    });
}

#[test]
fn a_page_that_is_trimmed_is_not_handed_out_meanwhile() {
    model("trim and take", || {
        let pool = pool();
        let (one, two) = (pool.take().unwrap(), pool.take().unwrap());
        drop((one, two));
        let theirs = pool.clone();
        // Perhaps the one who trims has them all just now: then there is none to take.
        let takes = thread::spawn(move || {
            let mut page = theirs.take().ok()?;
            page.extend(b"mine");
            Some(page)
        });
        pool.trim();
        let kept = takes.join().unwrap();
        assert_eq!(pool.available(), PAGES - kept.iter().count() as u32);
        drop(kept);
        assert_whole(&pool);
    });
}

#[test]
fn two_threads_that_trim_lose_nothing() {
    model("two trim", || {
        let pool = pool();
        // The other page is out, or this has too many orders.
        let (one, two) = (pool.take().unwrap(), pool.take().unwrap());
        drop(two);
        let theirs = pool.clone();
        let other = thread::spawn(move || theirs.trim());
        pool.trim();
        other.join().unwrap();
        drop(one);
        assert_whole(&pool);
    });
}

/// The free list once more, with one thing taken away, to see that the model notices.
struct Lesser {
    head: AtomicU64,
    next: [AtomicU32; PAGES as usize],
    bytes: [AtomicUsize; PAGES as usize],
    counts: bool,
    release: Ordering,
}

impl Lesser {
    /// Both pages are free.
    fn new(counts: bool, release: Ordering) -> loom::sync::Arc<Lesser> {
        loom::sync::Arc::new(Lesser {
            head: AtomicU64::new(0),
            next: [AtomicU32::new(1), AtomicU32::new(NONE)],
            bytes: [AtomicUsize::new(0), AtomicUsize::new(0)],
            counts,
            release,
        })
    }

    fn changed(&self, head: u64, index: u32) -> u64 {
        let count = if self.counts { (head >> 32).wrapping_add(1) } else { 0 };
        count << 32 | u64::from(index)
    }

    fn take(&self) -> Option<usize> {
        let mut head = self.head.load(Ordering::Acquire);
        loop {
            let index = head as u32 as usize;
            let next = self.next.get(index)?.load(Ordering::Relaxed);
            let changed = self.changed(head, next);
            match self.head.compare_exchange(head, changed, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => break,
                Err(seen) => head = seen,
            }
        }
        let index = head as u32 as usize;
        assert_eq!(self.bytes[index].load(Ordering::Relaxed), 0, "another one's page");
        self.bytes[index].store(1, Ordering::Relaxed);
        Some(index)
    }

    fn give_back(&self, index: usize) {
        self.bytes[index].store(0, Ordering::Relaxed);
        let mut head = self.head.load(Ordering::Relaxed);
        loop {
            self.next[index].store(head as u32, Ordering::Relaxed);
            let changed = self.changed(head, index as u32);
            match self.head.compare_exchange(head, changed, self.release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(seen) => head = seen,
            }
        }
    }
}

/// What `a_page_that_went_and_came_back...` does.
fn goes_and_comes_back(list: &loom::sync::Arc<Lesser>) {
    let theirs = list.clone();
    let other = thread::spawn(move || {
        let first = theirs.take();
        let _second = theirs.take();
        if let Some(first) = first {
            theirs.give_back(first);
        }
    });
    let (_mine, _second) = (list.take(), list.take());
    other.join().unwrap();
}

#[test]
fn the_lesser_list_is_right_with_nothing_taken_away() {
    model("nothing taken away", || goes_and_comes_back(&Lesser::new(true, Ordering::Release)));
}

#[test]
#[should_panic(expected = "another one's page")]
fn without_the_count_of_changes_a_page_has_two_owners() {
    model("no count", || goes_and_comes_back(&Lesser::new(false, Ordering::Release)));
}

#[test]
#[should_panic(expected = "another one's page")]
fn without_release_the_next_owner_does_not_see_that_the_last_one_is_done() {
    model("no release", || goes_and_comes_back(&Lesser::new(true, Ordering::Relaxed)));
}
