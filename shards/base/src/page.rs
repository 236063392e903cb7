//! The page pool: one aligned slab per pool, cut into pages of one size. A page has one owner and
//! is moved, never shared; dropping it gives it back, from any thread.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::Arc;

use crate::sync::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// Every page begins at a multiple of this: what O_DIRECT asks of every common disk.
pub const PAGE_ALIGN: usize = 4096;

/// All pages of the pool are in use; the caller waits until one comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no free page: the pool's limit is reached")]
pub struct NoPage;

/// A bounded pool of pages of one size. Clones are handles to the same pool.
///
/// Memory is taken from the system when a page is first used, so an idle pool costs nothing.
#[derive(Clone)]
pub struct PagePool {
    slab: Arc<Slab>,
}

impl PagePool {
    /// A pool of at most `pages` pages of `page_bytes` each (a multiple of [`PAGE_ALIGN`]).
    pub fn new(page_bytes: usize, pages: u32) -> PagePool {
        assert!(page_bytes > 0 && page_bytes.is_multiple_of(PAGE_ALIGN), "pages are aligned");
        assert!(pages > 0 && pages < NONE, "a pool has at least one page");
        PagePool { slab: Arc::new(Slab::new(page_bytes, pages)) }
    }

    /// A page, with length 0 and unspecified (but initialised) bytes.
    pub fn take(&self) -> Result<Page, NoPage> {
        let index = self.slab.pop().ok_or(NoPage)?;
        Ok(Page { slab: self.slab.clone(), index, length: 0 })
    }

    /// Bytes of each page.
    pub fn page_bytes(&self) -> usize {
        self.slab.page_bytes
    }

    /// The most pages that can be out at once.
    pub fn pages_max(&self) -> u32 {
        self.slab.pages
    }

    /// Pages that can still be taken; by the time it is read it may have changed.
    pub fn available(&self) -> u32 {
        self.slab.pages - self.slab.out.load(Ordering::Relaxed)
    }

    /// The whole slab, for registration with the kernel: address and length. Pins the pool:
    /// from now on no memory is given back, because the kernel holds its pages.
    pub fn pin(&self) -> (*mut u8, usize) {
        self.slab.pinned.store(true, Ordering::Relaxed);
        (self.slab.base.as_ptr(), self.slab.layout.size())
    }

    /// Gives the memory of free pages back to the system (Linux; elsewhere it does nothing).
    pub fn trim(&self) {
        self.slab.trim();
    }
}

impl std::fmt::Debug for PagePool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PagePool({} x {})", self.pages_max(), self.page_bytes())
    }
}

/// A buffer that begins at a multiple of [`PAGE_ALIGN`]. It has a length within its capacity and
/// derefs to the bytes before it.
pub struct Page {
    slab: Arc<Slab>,
    index: u32,
    length: u32,
}

impl Page {
    /// Bytes the page can hold.
    pub fn capacity(&self) -> usize {
        self.slab.page_bytes
    }

    /// Sets the length; what lies below it and was never written is unspecified.
    pub fn set_len(&mut self, length: usize) {
        assert!(length <= self.capacity(), "a page holds {} bytes", self.capacity());
        self.length = u32::try_from(length).expect("a page is below 4 GiB");
    }

    /// Copies `bytes` behind what is there. Panics if they do not fit.
    pub fn extend(&mut self, bytes: &[u8]) {
        let start = self.length as usize;
        self.set_len(start + bytes.len());
        self[start..].copy_from_slice(bytes);
    }

    /// The whole page, whatever its length.
    pub fn whole_mut(&mut self) -> &mut [u8] {
        self.slab.written(self.index);
        let (start, bytes) = (self.slab.address(self.index), self.slab.page_bytes);
        // WHY: pages of one slab are handed out by number, which the borrow checker cannot follow.
        // SAFETY: `index` was popped from the free list and is in no other Page, so this is the
        //   only reference into its bytes; all of them were initialised before the first pop.
        // CHECKED: tests::pages_never_overlap, tests::two_threads_never_hold_the_same_page, model.
        unsafe { std::slice::from_raw_parts_mut(start.as_ptr(), bytes) }
    }
}

impl Deref for Page {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.slab.read(self.index);
        let start = self.slab.address(self.index);
        // SAFETY: as in `whole_mut`, for reading; length never exceeds the page.
        // CHECKED: the same tests.
        unsafe { std::slice::from_raw_parts(start.as_ptr(), self.length as usize) }
    }
}

impl DerefMut for Page {
    fn deref_mut(&mut self) -> &mut [u8] {
        let length = self.length as usize;
        &mut self.whole_mut()[..length]
    }
}

impl AsRef<[u8]> for Page {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl std::fmt::Debug for Page {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Page({} of {} B)", self.length, self.capacity())
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        self.slab.push(self.index);
    }
}

/// Marks the end of the free list.
const NONE: u32 = u32::MAX;

struct Slab {
    base: NonNull<u8>,
    layout: Layout,
    page_bytes: usize,
    pages: u32,
    // Free pages as a stack, so that the page used last, still in cache, is used next. The head
    // holds a change count above the index, so a page that went and came back is not mistaken.
    head: AtomicU64,
    next: Box<[AtomicU32]>,
    // Pages from here on were never used: they have no memory yet.
    fresh: AtomicU32,
    out: AtomicU32,
    pinned: AtomicBool,
    // The bytes of each page, as the model sees them.
    #[cfg(loom)]
    bytes: Box<[loom::cell::UnsafeCell<()>]>,
}

// SAFETY: the slab is memory that only Pages touch, each its own part; all bookkeeping is atomic.
// CHECKED: tests::two_threads_never_hold_the_same_page, model.
unsafe impl Send for Slab {}
// SAFETY: as above.
unsafe impl Sync for Slab {}

impl Slab {
    fn new(page_bytes: usize, pages: u32) -> Slab {
        let bytes = page_bytes.checked_mul(pages as usize).expect("a pool fits the address space");
        let layout = Layout::from_size_align(bytes, PAGE_ALIGN).expect("a pool has a layout");
        // WHY: zeroed allocation would touch every page now; they are zeroed at first use instead.
        // SAFETY: the layout's size is not 0.
        // CHECKED: tests::an_unused_pool_costs_no_memory.
        let base = unsafe { alloc(layout) };
        let base = NonNull::new(base).unwrap_or_else(|| handle_alloc_error(layout));
        let next = (0..pages).map(|_| AtomicU32::new(NONE)).collect();
        Slab {
            base,
            layout,
            page_bytes,
            pages,
            head: AtomicU64::new(NONE as u64),
            next,
            fresh: AtomicU32::new(0),
            out: AtomicU32::new(0),
            pinned: AtomicBool::new(false),
            #[cfg(loom)]
            bytes: (0..pages).map(|_| loom::cell::UnsafeCell::new(())).collect(),
        }
    }

    /// Tells the model, if there is one, that a page's bytes are read now.
    fn read(&self, _index: u32) {
        #[cfg(loom)]
        self.bytes[_index as usize].with(|_| ());
    }

    /// Tells the model, if there is one, that a page's bytes are written now.
    fn written(&self, _index: u32) {
        #[cfg(loom)]
        self.bytes[_index as usize].with_mut(|_| ());
    }

    fn address(&self, index: u32) -> NonNull<u8> {
        assert!(index < self.pages, "a page lies within its slab");
        // SAFETY: index < pages, so the result lies inside the allocation.
        // CHECKED: tests::pages_never_overlap.
        unsafe { self.base.add(index as usize * self.page_bytes) }
    }

    fn pop(&self) -> Option<u32> {
        let index = self.pop_used().or_else(|| self.pop_fresh())?;
        self.out.fetch_add(1, Ordering::Relaxed);
        Some(index)
    }

    fn pop_used(&self) -> Option<u32> {
        let mut head = self.head.load(Ordering::Acquire);
        loop {
            let index = head as u32;
            let next = self.next.get(index as usize)?.load(Ordering::Relaxed);
            let changed = ((head >> 32).wrapping_add(1) << 32) | u64::from(next);
            match self.head.compare_exchange_weak(
                head,
                changed,
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(_) => return Some(index),
                Err(seen) => head = seen,
            }
        }
    }

    fn pop_fresh(&self) -> Option<u32> {
        let bump = |fresh| (fresh < self.pages).then_some(fresh + 1);
        let index = self.fresh.fetch_update(Ordering::Relaxed, Ordering::Relaxed, bump).ok()?;
        self.written(index);
        // SAFETY: the page was never handed out, so nobody else refers to its bytes.
        // CHECKED: tests::pages_never_overlap.
        unsafe { self.address(index).write_bytes(0, self.page_bytes) };
        Some(index)
    }

    fn push(&self, index: u32) {
        self.out.fetch_sub(1, Ordering::Relaxed);
        self.push_free(index);
    }

    fn push_free(&self, index: u32) {
        let mut head = self.head.load(Ordering::Relaxed);
        loop {
            self.next[index as usize].store(head as u32, Ordering::Relaxed);
            let changed = ((head >> 32).wrapping_add(1) << 32) | u64::from(index);
            match self.head.compare_exchange_weak(
                head,
                changed,
                Ordering::Release,
                Ordering::Relaxed,
            ) {
                Ok(_) => return,
                Err(seen) => head = seen,
            }
        }
    }

    fn trim(&self) {
        if self.pinned.load(Ordering::Relaxed) {
            return;
        }
        let mut taken = Vec::new();
        while let Some(index) = self.pop_used() {
            self.give_back(index);
            taken.push(index);
        }
        taken.into_iter().rev().for_each(|index| self.push_free(index));
    }

    #[cfg(target_os = "linux")]
    fn give_back(&self, index: u32) {
        self.written(index);
        // WHY: an idle node has to be small also after load.
        // SAFETY: the page is off the free list and in no Page; private anonymous memory reads
        //   as zeros after MADV_DONTNEED, so it stays initialised. A pinned slab never gets here.
        // CHECKED: tests::trimmed_pages_work_again.
        unsafe {
            libc::madvise(self.address(index).as_ptr().cast(), self.page_bytes, libc::MADV_DONTNEED)
        };
    }

    #[cfg(not(target_os = "linux"))]
    fn give_back(&self, _index: u32) {}
}

impl Drop for Slab {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout; every Page holds an Arc of the slab, so none is left.
        // CHECKED: tests::a_page_outlives_its_pool.
        unsafe { dealloc(self.base.as_ptr(), self.layout) };
    }
}

/// Asks the allocator to give what it holds and does not use back to the system (glibc; elsewhere
/// it does nothing). For a core that has gone idle.
pub fn release_free_memory() {
    // WHY: glibc keeps the memory of small buffers for ever, and an idle node has to be small.
    // SAFETY: malloc_trim takes no pointer and may be called at any time from any thread.
    // CHECKED: the node's idle-memory test.
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    unsafe {
        libc::malloc_trim(0)
    };
}

#[cfg(all(test, loom))]
mod model;
#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn pages_never_overlap() {
        let pool = PagePool::new(8192, 5);
        let mut pages: Vec<Page> = (0..5).map(|_| pool.take().unwrap()).collect();
        assert_eq!(pool.take().unwrap_err(), NoPage);
        for (mark, page) in (1u8..).zip(&mut pages) {
            assert_eq!(page.whole_mut().as_ptr() as usize % PAGE_ALIGN, 0);
            page.whole_mut().fill(mark);
            page.set_len(8192);
        }
        for (mark, page) in (1u8..).zip(&pages) {
            assert!(page.iter().all(|&b| b == mark));
        }
        pages.pop();
        assert_eq!(pool.available(), 1);
        assert!(pool.take().is_ok());
    }

    #[test]
    fn a_page_outlives_its_pool() {
        let pool = PagePool::new(4096, 2);
        let mut page = pool.take().unwrap();
        drop(pool);
        page.extend(b"still here");
        assert_eq!(&page[..], b"still here");
    }

    #[test]
    fn the_page_used_last_is_used_next() {
        let pool = PagePool::new(4096, 8);
        let (a, b) = (pool.take().unwrap(), pool.take().unwrap());
        let at = b.as_ptr();
        drop(a);
        drop(b);
        assert_eq!(pool.take().unwrap().as_ptr(), at);
    }

    #[test]
    fn trimmed_pages_work_again() {
        let pool = PagePool::new(4096, 3);
        let mut page = pool.take().unwrap();
        page.extend(&[7; 4096]);
        drop(page);
        pool.trim();
        let mut page = pool.take().unwrap();
        page.extend(b"x");
        assert_eq!(&page[..], b"x");
        assert_eq!(pool.available(), 2);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn an_unused_pool_costs_no_memory() {
        let resident = || -> u64 {
            let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
            statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
        };
        let before = resident();
        let pool = PagePool::new(1 << 20, 1024);
        let page = pool.take().unwrap();
        assert!(resident() < before + (64 << 20), "a 1 GiB pool was touched");
        drop(page);
    }

    #[test]
    fn two_threads_never_hold_the_same_page() {
        let pool = PagePool::new(4096, 4);
        std::thread::scope(|scope| {
            for mark in 1..=3u8 {
                let pool = pool.clone();
                scope.spawn(move || {
                    for _ in 0..50_000 {
                        let Ok(mut page) = pool.take() else { continue };
                        page.whole_mut()[..64].fill(mark);
                        std::hint::spin_loop();
                        assert!(page.whole_mut()[..64].iter().all(|&b| b == mark));
                    }
                });
            }
        });
        assert_eq!(pool.available(), 4);
    }
}
