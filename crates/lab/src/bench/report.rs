//! Everything that a benchmark found, for programs and for the eye.

use ds4_cpu::Family;
use ds4_engine::{Engine, Machine};
use ds4_model::Activations;
use serde_json::{Value, json};
use sysinfo::{CpuRefreshKind, RefreshKind, System};

use super::{Limits, Plan, Row, Work, plot};

/// A table with what it was measured on.
pub struct Report<'a> {
    /// What was measured.
    pub engine: &'a Engine,
    /// How.
    pub plan: &'a Plan,
    /// What the machine allows, if that was measured.
    pub limits: Option<&'a Limits<'a>>,
    /// The table.
    pub rows: &'a [Row],
}

impl Report<'_> {
    /// All of it: the machine, the model, the limits, the rows.
    pub fn json(&self) -> Value {
        let options = self.engine.options();
        let model = self.engine.model();
        let work = Work::of(&model.weights, options.numerics.rows);
        let shape = &model.weights.shape;
        json!({
            "source": "ds4 bench",
            "version": env!("CARGO_PKG_VERSION"),
            "machine": {
                "processor": processor(),
                "os": std::env::consts::OS,
                "arch": std::env::consts::ARCH,
                "memory_bytes": Machine::measure().map(|m| m.total),
                "threads": options.threads,
                "instructions": Family::current().name(),
            },
            "model": {
                "name": model.name,
                "file_bytes": model.file_bytes,
                "layers": shape.layers(),
                "hidden": shape.hidden,
                "activations": if options.numerics.activations == Activations::Int8 { "int8" } else { "f32" },
                "decode_bytes": work.decode_bytes as u64,
                "prefill_products": work.prefill_products as u64,
                "integer_part": work.integer_part,
            },
            "limits": self.limits.map(|l| json!({
                "read_bytes_per_second": l.machine.read,
                "products_per_second": l.machine.products,
                "prefill_tps": l.prefill(),
            })),
            "repeat": self.plan.repeat,
            "rows": self.rows.iter().map(|r| self.row(r, &work)).collect::<Vec<_>>(),
        })
    }

    /// All columns of a row, unrounded, and what attention takes there.
    fn row(&self, row: &Row, work: &Work) -> Value {
        let attention = work.attention(row.context);
        let mut object = json!({
            "ctx_tokens": row.context,
            "prefill_tokens": row.prefilled,
            "prefill_tps": row.prefill_rate,
            "gen_tokens": row.generated,
            "gen_tps": row.decode_rate,
            "kvcache_bytes": row.cache_bytes,
            "attention_bytes": attention.bytes,
            "attention_products": attention.products,
        });
        if let Some(limits) = self.limits {
            let [prefill, decode] = limits.shares(row);
            object["prefill_share"] = json!(prefill);
            object["gen_share"] = json!(decode);
            object["gen_limit_tps"] = json!(limits.decode(row.context));
        }
        object
    }

    /// Both rates against the context, as a picture that stands alone.
    pub fn svg(&self) -> String {
        let options = self.engine.options();
        let name = &self.engine.model().name;
        let title = name.rsplit('/').next().unwrap_or(name);
        let runs = if self.plan.repeat > 1 { format!(", median of {} runs", self.plan.repeat) } else { String::new() };
        let processor = processor().map(|p| p + ", ").unwrap_or_default();
        let about = format!("{processor}{} threads, {}{runs}", options.threads, Family::current());
        let points = |of: &dyn Fn(&Row) -> f64| self.rows.iter().map(|r| (r.context as f64, of(r))).collect::<Vec<_>>();
        let limit = |of: &dyn Fn(&Limits, &Row) -> f64| self.limits.map(|l| points(&|r| of(l, r))).unwrap_or_default();
        let panels = [
            plot::Panel {
                title: "Prefill",
                colour: "#1d5fbf",
                points: points(&|r| r.prefill_rate),
                limit: limit(&|l, _| l.prefill()),
                limit_name: "the multiplier's limit",
            },
            plot::Panel {
                title: "Decode",
                colour: "#c2570c",
                points: points(&|r| r.decode_rate),
                limit: limit(&|l, r| l.decode(r.context)),
                limit_name: "the memory's limit",
            },
        ];
        plot::svg(title, &about, &panels, self.plan.factor > 1.0)
    }
}

/// The processor's name, where the system tells it.
fn processor() -> Option<String> {
    let system = System::new_with_specifics(RefreshKind::nothing().with_cpu(CpuRefreshKind::nothing())).ok()?;
    system.cpus().first().map(|c| c.brand().trim().to_string()).filter(|name| !name.is_empty())
}
