//! The life of an adapter with a single thread.

use crate::device::Device;

#[test]
fn a_trial_ends_confirmed_or_reverted_and_only_once() {
    let device = Device::new();
    device.install(2);
    let tried = device.frame().unwrap();
    assert_eq!(tried.digest, 2, "a replaced active task is active at once");
    assert!(device.confirm(&tried));
    assert!(!device.confirm(&tried) && !device.revert(&tried));
    device.check();
    device.install(3);
    let tried = device.frame().unwrap();
    assert!(device.revert(&tried) && !device.confirm(&tried));
    assert_eq!(device.answers(), Some(2));
    device.check();
}

#[test]
fn a_store_that_refuses_leaves_the_trial_under_way() {
    let device = Device::new();
    device.install(2);
    let tried = device.frame().unwrap();
    assert_eq!(device.serving.confirm(&tried, |_| Err("full")), Err("full"));
    assert_eq!(device.serving.revert(&tried, |_, _| Err("full")), Err("full"));
    device.check();
    assert!(device.revert(&tried));
}

#[test]
fn a_replaced_adapter_has_no_say_any_more() {
    let device = Device::new();
    device.install(2);
    let old = device.frame().unwrap();
    device.install(3);
    assert!(device.serving.info_of(&old, |_| ()).is_none());
    assert!(!device.confirm(&old) && !device.revert(&old));
    device.check();
    assert_eq!(device.answers(), Some(3));
}

#[test]
fn a_person_may_end_a_trial_before_its_frames_do() {
    let device = Device::new();
    device.install(2);
    let tried = device.frame().unwrap();
    assert_eq!(device.serving.info_of(&tried, |known| known.frames), Some(0));
    device.mark_good();
    assert!(!device.revert(&tried), "it is confirmed, and was loaded again");
    device.install(3);
    device.mark_bad();
    assert_eq!(device.answers(), Some(2));
    device.check();
}

#[test]
fn a_task_is_chosen_from_frames_only_while_nobody_names_one() {
    let device = Device::new();
    let chosen = device.frame().unwrap();
    assert!(!device.serving.switch_chosen(&chosen));
    device.switch_to_auto();
    assert!(device.serving.auto() && device.serving.switch_chosen(&chosen));
    assert!(
        device.switch("boats").is_err() && device.serving.auto(),
        "a failed switch changes nothing"
    );
    device.with_cars();
    device.switch("cars").unwrap();
    device.check_remembered();
    assert_eq!(device.answers(), Some(9));
    assert!(!device.serving.auto());
}

#[test]
fn a_removed_task_answers_no_frame_and_is_not_switched_to() {
    let device = Device::new();
    device.remove();
    device.check();
    assert_eq!(device.answers(), None);
    assert_eq!(device.switch("birds").unwrap_err(), "birds is not among []");
}
