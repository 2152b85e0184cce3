//! Memory of a resident adapter, counted by the allocator.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

use clr_adapters::Recipe;
use clr_engine::Kernels;
use clr_onnx::Architecture;

use crate::common::{adapter, backbone, engine};

/// The system's allocator, which also counts the bytes that each thread holds.
struct Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
}

fn count(bytes: isize) {
    // When a thread ends, its counter may already have been destroyed.
    let _ = HELD.try_with(|held| held.set(held.get() + bytes));
}

// SAFETY: every call is passed to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn a_resident_adapter_takes_at_most_a_fifth_more_than_decoded() {
    for architecture in [Architecture::EfficientNetLite0, Architecture::ResNet18] {
        let backbone = backbone(architecture, 32);
        let engine = engine(backbone.clone(), 1, Kernels::Fused);
        for recipe in Recipe::ALL {
            let adapter = adapter(&backbone, recipe, "any", 10, 1);
            // The plan belongs to the input size and not to the adapter, so it is built first.
            drop(engine.prepare(&adapter).unwrap());
            let before = HELD.get();
            let resident = engine.prepare(&adapter).unwrap();
            let held = HELD.get() - before;
            let decoded = adapter.decoded_bytes();
            let ratio = held as f64 / decoded as f64;
            assert!(
                ratio <= 1.2,
                "{architecture:?}, {recipe}: {held} bytes for {decoded}, ratio {ratio:.3}"
            );
            drop(resident);
            assert_eq!(
                HELD.get(),
                before,
                "{architecture:?}, {recipe}: dropping gives everything back"
            );
        }
    }
}
