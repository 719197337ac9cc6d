//! Counts what this thread allocates.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local!(static ALLOCATED: Cell<(u64, i64)> = const { Cell::new((0, 0)) });

struct Counting;

fn note(calls: u64, bytes: i64) {
    let _ = ALLOCATED.try_with(|all| all.set((all.get().0 + calls, all.get().1 + bytes)));
}

// SAFETY: every call goes to the system's allocator as it is; only a counter of the thread is moved beside.
#[allow(
    unsafe_code,
    reason = "an allocator is the only way to count allocations, and test code alone has it"
)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(1, layout.size() as i64);
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        note(0, -(layout.size() as i64));
        unsafe { System.dealloc(at, layout) }
    }
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(1, size as i64 - layout.size() as i64);
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// How often this thread has asked for memory, and how many bytes of it are in use (less than none, if others gave theirs).
pub(crate) fn allocated() -> (u64, i64) {
    ALLOCATED.with(Cell::get)
}
