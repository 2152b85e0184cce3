//! Memory plans are made in advance, and more memory never trains a smaller part.

use clr_tuning::{TrainableScope, TuneError, plan_memory};

use super::common::{backbone, options, publisher};

#[test]
fn the_plan_fits_the_budget_and_more_memory_trains_no_less() {
    let backbone = backbone();
    let parent = publisher(&backbone);
    let mut last: Option<usize> = None;
    let mut refused = 0;
    for kilobytes in (8_200..9_400).step_by(20) {
        let options = options().with_max_memory(1000 * kilobytes).with_resident(Some(0));
        match plan_memory(&backbone, &parent, 20, &options) {
            Ok(plan) => {
                assert!(plan.peak <= 1000 * kilobytes, "{plan}");
                assert!(last.is_none_or(|sites| plan.trained_sites >= sites), "{plan}");
                last = Some(plan.trained_sites);
            }
            Err(TuneError::Budget { needed, .. }) => {
                assert!(needed > 1000 * kilobytes && last.is_none());
                refused += 1;
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert!(refused > 0, "the range begins below the least plan");
    assert_eq!(last, Some(4), "the budgets end above the largest plan");
}

#[test]
fn resident_memory_counts() {
    let backbone = backbone();
    let parent = publisher(&backbone);
    let with = |resident: u64, max_memory: Option<u64>| {
        let options = options().with_resident(resident).with_max_memory(max_memory);
        plan_memory(&backbone, &parent, 20, &options)
    };
    let small = with(0, None).unwrap();
    let large = with(100_000_000, None).unwrap();
    assert_eq!(small.peak + 100_000_000, large.peak);
    let error = with(100_000_000, Some(100_000_000)).unwrap_err();
    assert!(
        matches!(
            error,
            TuneError::Budget {
                resident: 100_000_000,
                ..
            }
        ),
        "{error}"
    );
    assert!(error.to_string().contains("hint: "));
    let measured = plan_memory(&backbone, &parent, 20, &options()).unwrap();
    assert!(!cfg!(target_os = "linux") || measured.resident > 0);
}

#[test]
fn a_plan_describes_itself_in_words() {
    let backbone = backbone();
    let parent = publisher(&backbone);
    let text = |scope| {
        let options = options().with_scope(scope).with_resident(Some(0));
        plan_memory(&backbone, &parent, 20, &options).unwrap().to_string()
    };
    assert!(text(TrainableScope::Complete).starts_with("the complete adapter (4 sites"));
    assert!(text(TrainableScope::From(3)).starts_with("the last 1 of 4 sites"));
    assert!(text(TrainableScope::Head).starts_with("the head alone"));
}

#[test]
fn options_out_of_range_are_refused() {
    let backbone = backbone();
    let parent = publisher(&backbone);
    for bad in [
        options().with_batch(9),
        options().with_steps(0),
        options().with_threads(0),
        options().with_replay_fraction(1.0),
        options().with_distillation_temperature(0.0),
        options().with_interpolation(1.5),
    ] {
        assert!(matches!(
            plan_memory(&backbone, &parent, 20, &bad),
            Err(TuneError::Option { .. })
        ));
    }
}
