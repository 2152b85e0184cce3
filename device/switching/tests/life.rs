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
fn if_the_store_fails_the_trial_continues() {
    let device = Device::new();
    device.install(2);
    let tried = device.frame().unwrap();
    assert_eq!(device.serving.confirm(&tried, |_| Err("full")), Err("full"));
    assert_eq!(device.serving.revert(&tried, |_, _| Err("full")), Err("full"));
    device.check();
    assert!(device.revert(&tried));
}

#[test]
fn a_replaced_adapter_has_no_further_effect() {
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
fn a_trial_may_be_ended_on_request() {
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
fn a_manual_switch_ends_automatic_choice() {
    let device = Device::new();
    let chosen = device.frame().unwrap();
    assert!(!device.serving.switch_chosen(&chosen));
    device.switch_to_auto();
    assert!(device.serving.auto() && device.serving.switch_chosen(&chosen));
    assert!(
        device.switch(&["boats"]).is_err() && device.serving.auto(),
        "a failed switch changes nothing"
    );
    device.with_cars();
    device.switch(&["cars"]).unwrap();
    device.check_remembered();
    assert_eq!(device.answers(), Some(9));
    assert!(!device.serving.auto());
}

#[test]
fn a_removed_task_serves_no_frame_and_cannot_be_switched_to() {
    let device = Device::new();
    device.remove();
    device.check();
    assert_eq!(device.answers(), None);
    assert_eq!(device.switch(&["birds"]).unwrap_err(), "birds is not among []");
}

#[test]
fn a_group_is_switched_as_a_whole_or_not_at_all() {
    let device = Device::new();
    device.with_cars();
    device.switch(&["cars", "birds"]).unwrap();
    assert_eq!(
        device.group_answers(),
        answers(&[("cars", 9), ("birds", 1)]),
        "in the order of the names"
    );
    device.switch(&["birds", "boats"]).unwrap_err();
    assert_eq!(device.group_answers(), answers(&[("cars", 9), ("birds", 1)]));
    device.check_remembered();
    device.switch(&["birds"]).unwrap();
    assert_eq!(device.group_answers(), answers(&[("birds", 1)]));
}

#[test]
fn a_change_of_one_task_of_a_group_leaves_the_others() {
    let device = Device::new();
    device.with_cars();
    device.switch(&["birds", "cars"]).unwrap();
    let before = device.serving.tasks().selection().unwrap();
    device.install(2);
    assert_eq!(device.group_answers(), answers(&[("birds", 2), ("cars", 9)]));
    let tried = device.serving.tasks().get("birds").unwrap();
    assert!(device.revert(&tried));
    assert_eq!(device.group_answers(), answers(&[("birds", 1), ("cars", 9)]));
    device.check();
    let kept = before.adapters().next().unwrap();
    assert_eq!(kept.digest, 1, "a frame keeps the selection that it took");
}

#[test]
fn a_task_of_a_group_without_an_adapter_serves_again_once_it_has_one() {
    let device = Device::new();
    device.with_cars();
    device.switch(&["birds", "cars"]).unwrap();
    device.lose();
    let missing = ("birds".to_owned(), None);
    assert_eq!(device.group_answers(), [missing, ("cars".to_owned(), Some(9))]);
    device.check_remembered();
    device.install(3);
    assert_eq!(device.group_answers(), answers(&[("birds", 3), ("cars", 9)]));
    device.remove();
    assert_eq!(
        device.group_answers(),
        answers(&[("cars", 9)]),
        "a removed task is not selected"
    );
    device.check_remembered();
    device.install(4);
    assert_eq!(device.group_answers(), answers(&[("cars", 9)]));
}

#[test]
fn a_task_may_be_selected_before_it_has_an_adapter() {
    let device = Device::new();
    device.serving.lock_switches().select(&["cars", "birds"]);
    assert_eq!(device.answers(), Some(1), "the first task that has an adapter");
    device.with_cars();
    assert_eq!(device.group_answers(), answers(&[("cars", 9), ("birds", 1)]));
}

fn answers(of: &[(&str, u32)]) -> Vec<(String, Option<u32>)> {
    of.iter()
        .map(|&(task, digest)| (task.to_owned(), Some(digest)))
        .collect()
}
