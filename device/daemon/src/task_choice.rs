//! Choice of the tasks that classify frames: a task, a group, or automatic choice per frame.

use std::fmt;

use clr_adapters::AUTO;
use clr_transfer::{GroupFault, check_group};
use serde::{Deserialize, Deserializer, de};

/// The tasks that classify each frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TaskChoice {
    /// The task is chosen from each frame.
    Auto,
    /// One task, or a group whose tasks are switched together, in their order.
    Tasks(Vec<String>),
}

impl TaskChoice {
    /// Returns the choice of a command or of the store: `auto` alone, or names of tasks.
    ///
    /// # Errors
    /// [`GroupFault`] if the names are not a group.
    pub fn of_names(names: &[impl AsRef<str>]) -> Result<Self, GroupFault> {
        match names {
            [name] if name.as_ref() == AUTO => Ok(Self::Auto),
            names => Self::of_group(names),
        }
    }

    fn of_group(names: &[impl AsRef<str>]) -> Result<Self, GroupFault> {
        check_group(names)?;
        Ok(Self::Tasks(names.iter().map(|name| name.as_ref().to_owned()).collect()))
    }

    /// Returns the names of the tasks, or `auto`, as the store keeps them.
    pub fn names(&self) -> Vec<&str> {
        match self {
            Self::Auto => vec![AUTO],
            Self::Tasks(tasks) => tasks.iter().map(String::as_str).collect(),
        }
    }

    /// Returns the choice without a task; `None` if no other task is chosen.
    pub(crate) fn without(self, task: &str) -> Option<Self> {
        match self {
            Self::Auto => Some(Self::Auto),
            Self::Tasks(mut tasks) => {
                tasks.retain(|chosen| chosen != task);
                (!tasks.is_empty()).then_some(Self::Tasks(tasks))
            }
        }
    }
}

impl<'de> Deserialize<'de> for TaskChoice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Names;

        impl<'de> de::Visitor<'de> for Names {
            type Value = TaskChoice;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a task's name, `auto`, or a list of tasks' names")
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<TaskChoice, E> {
                TaskChoice::of_names(&[name]).map_err(E::custom)
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<TaskChoice, A::Error> {
                let mut names = Vec::<String>::new();
                while let Some(name) = list.next_element()? {
                    names.push(name);
                }
                TaskChoice::of_group(&names).map_err(de::Error::custom)
            }
        }

        deserializer.deserialize_any(Names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_removed_task_leaves_the_rest_of_the_choice() {
        let group = TaskChoice::of_names(&["helmet", "vest"]).unwrap();
        let rest = group.without("helmet").unwrap();
        assert_eq!(rest.names(), ["vest"]);
        assert_eq!(rest.without("vest"), None);
        assert_eq!(TaskChoice::Auto.without("vest"), Some(TaskChoice::Auto));
    }
}
