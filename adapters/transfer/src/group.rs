//! Groups: lists of tasks that classify each frame together and are switched together.

use alloc::{
    borrow::ToOwned as _,
    string::{String, ToString as _},
    vec::Vec,
};

use clr_adapters::AUTO;

use crate::{
    failure::{Failure, FailureCode},
    message::{MAX_GROUP, MAX_TASK},
};

/// Separator of the names on the wire. A name contains no control characters.
const SEPARATOR: char = '\n';

/// Fault of a group.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GroupFault {
    /// The group has no task.
    #[error("the list of tasks is empty, expected 1 to {MAX_GROUP} tasks\nhint: name at least one task")]
    Empty,
    /// The group has too many tasks.
    #[error("the list has {got} tasks, expected at most {MAX_GROUP}\nhint: name fewer tasks")]
    TooMany {
        /// The number of tasks.
        got: usize,
    },
    /// The group contains the automatic choice.
    #[error("`{AUTO}` is in a list of tasks, expected names of tasks only\nhint: give `{AUTO}` alone, not in a list")]
    Auto,
    /// A task is in the group twice.
    #[error("the list names the task `{task}` twice\nhint: name each task once")]
    Twice {
        /// The task.
        task: String,
    },
    /// A name is not the name of a task.
    #[error(
        "{name:?} is not a task's name, expected 1 to {MAX_TASK} bytes without control characters\nhint: `clr-device list` shows the tasks"
    )]
    Name {
        /// The name.
        name: String,
    },
}

/// Checks the names of a group: 1 to [`MAX_GROUP`] distinct tasks, without `auto`.
///
/// # Errors
/// The first [`GroupFault`].
pub fn check_group(tasks: &[impl AsRef<str>]) -> Result<(), GroupFault> {
    if tasks.is_empty() {
        return Err(GroupFault::Empty);
    }
    if tasks.len() > MAX_GROUP {
        return Err(GroupFault::TooMany { got: tasks.len() });
    }
    for (at, task) in tasks.iter().map(AsRef::as_ref).enumerate() {
        if task == AUTO {
            return Err(GroupFault::Auto);
        }
        if task.is_empty() || task.len() > MAX_TASK || task.chars().any(char::is_control) {
            let name = crate::failure::clipped(task, MAX_TASK).to_owned();
            return Err(GroupFault::Name { name });
        }
        if tasks[..at].iter().any(|other| other.as_ref() == task) {
            return Err(GroupFault::Twice { task: task.to_owned() });
        }
    }
    Ok(())
}

/// Returns the names as one text for the wire. They have been checked.
pub(crate) fn joined(tasks: &[impl AsRef<str>]) -> String {
    let names: Vec<&str> = tasks.iter().map(AsRef::as_ref).collect();
    names.join(&SEPARATOR.to_string())
}

/// Returns the names of a group from the wire, after a check.
pub(crate) fn parse(tasks: &str) -> Result<Vec<&str>, GroupFault> {
    let count = tasks.split(SEPARATOR).count();
    if count > MAX_GROUP {
        return Err(GroupFault::TooMany { got: count });
    }
    let names: Vec<&str> = match tasks {
        "" => Vec::new(),
        tasks => tasks.split(SEPARATOR).collect(),
    };
    check_group(&names)?;
    Ok(names)
}

impl From<GroupFault> for Failure {
    fn from(fault: GroupFault) -> Self {
        Self::new(FailureCode::MALFORMED, fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_a_group_survive_the_wire() {
        let names = ["helmet", "vest, red", "größe"];
        assert_eq!(parse(&joined(&names)).unwrap(), names);
    }

    #[test]
    fn a_faulty_group_is_refused_with_its_fault_and_a_hint() {
        let long = "a".repeat(MAX_TASK + 1);
        let many: Vec<String> = (0..=MAX_GROUP).map(|at| at.to_string()).collect();
        for (tasks, fault) in [
            ("", GroupFault::Empty),
            ("a\nauto", GroupFault::Auto),
            ("auto", GroupFault::Auto),
            ("a\nb\na", GroupFault::Twice { task: "a".into() }),
            ("a\n", GroupFault::Name { name: String::new() }),
            ("a\u{7}", GroupFault::Name { name: "a\u{7}".into() }),
            (&long, GroupFault::Name { name: long[1..].into() }),
            (&joined(&many), GroupFault::TooMany { got: MAX_GROUP + 1 }),
        ] {
            assert_eq!(parse(tasks), Err(fault.clone()));
            assert!(Failure::from(fault).hint.is_some());
        }
    }
}
