//! `clr continual methods`.

use clr_continual::registry::METHODS;
use serde::Serialize;

use crate::{commands::Context, output::Table};

#[derive(Serialize)]
struct Listing {
    methods: Vec<Item>,
}

#[derive(Serialize)]
struct Item {
    name: &'static str,
    summary: &'static str,
    settings: Vec<(&'static str, &'static [f64])>,
}

/// Lists the methods.
pub(crate) fn list(context: &Context<'_>) -> anyhow::Result<u8> {
    if context.output.json {
        let methods = METHODS.iter().map(|entry| Item {
            name: entry.name,
            summary: entry.summary,
            settings: entry.grid.to_vec(),
        });
        context.output.document(
            "continual-methods",
            &Listing {
                methods: methods.collect(),
            },
        )?;
        return Ok(0);
    }
    let mut table = Table::new(["method", "what it does", "settings, the default first"]);
    for entry in METHODS {
        let settings = entry.grid.iter().map(|(name, values)| {
            let values: Vec<String> = values.iter().map(ToString::to_string).collect();
            format!("{name} {}", values.join("|"))
        });
        let mut settings: Vec<String> = settings.collect();
        if entry.rate_of_sgd {
            settings.push("network-rate (that of sgd)".to_owned());
        }
        table.row([entry.name.to_owned(), entry.summary.to_owned(), settings.join(", ")]);
    }
    context.output.table(&table)?;
    Ok(0)
}
