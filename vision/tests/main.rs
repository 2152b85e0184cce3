//! Tests that run the examples.

mod examples;
#[expect(dead_code, reason = "the tests of clr-transfer use all of it")]
#[path = "../../adapters/transfer/tests/memory_device.rs"]
mod memory_device;
