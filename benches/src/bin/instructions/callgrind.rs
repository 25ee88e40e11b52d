//! Reads callgrind's output.

use std::collections::HashMap;

use crate::count::Count;

/// Functions listed per path.
const LISTED: usize = 24;

/// What `std`'s allocator calls; each is a function of libc.
const ALLOCATING: [&str; 5] = ["malloc", "calloc", "realloc", "aligned_alloc", "posix_memalign"];

/// What one path costs, in instructions per request.
pub struct Profile {
    requests: u64,
    total: u64,
    allocations: u64,
    /// Own instructions by crate, and by module of the library: adds up to the total. What is
    /// inlined counts where it was written; the standard library counts where it is used.
    parts: HashMap<String, u64>,
    /// With what they call; only those of the library and of what it calls.
    functions: HashMap<String, u64>,
}

impl Profile {
    /// The format is described in valgrind's manual, "Callgrind Format Specification".
    pub fn parse(output: &str, requests: u64) -> Self {
        let mut profile = Self {
            requests,
            total: 0,
            allocations: 0,
            parts: HashMap::new(),
            functions: HashMap::new(),
        };
        let mut names = Names::default();
        let (mut function, mut file, mut object) = <(String, String, String)>::default();
        let mut inlined = String::new();
        let mut called: Option<String> = None;
        let mut is_call = false;
        for line in output.lines() {
            if let Some((keyword, value)) = line.split_once('=') {
                match keyword {
                    "fn" => {
                        function = names.get("fn", value);
                        called = None;
                    }
                    "fl" => {
                        file = names.get("file", value);
                        inlined.clone_from(&file);
                    }
                    "fi" | "fe" => inlined = names.get("file", value),
                    "ob" => object = names.get("object", value),
                    "cfn" => called = Some(names.get("fn", value)),
                    "cfi" | "cfl" => drop(names.get("file", value)),
                    "cob" => drop(names.get("object", value)),
                    "calls" => {
                        is_call = true;
                        let allocates = |name: &str| ALLOCATING.contains(&name);
                        // Not those that one makes to do its work.
                        if called.as_deref().is_some_and(allocates) && !allocates(&function) {
                            profile.allocations += calls(value);
                        }
                    }
                    _ => {}
                }
                continue;
            }
            let Some(cost) = cost(line) else { continue };
            if is_call {
                is_call = false;
                // A recursion is in the inclusive cost of its outermost call already.
                if called.as_ref() == Some(&function) {
                    continue;
                }
            } else {
                profile.total += cost;
                *profile.parts.entry(part(&[&inlined, &file], &function, &object)).or_default() +=
                    cost;
            }
            *profile.functions.entry(function.clone()).or_default() += cost;
        }
        profile
    }

    /// What one request costs.
    pub fn count(&self) -> Count {
        #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
        let allocations = self.allocations as f64 / self.requests as f64;
        Count { instructions: per(self.total, self.requests), allocations }
    }

    /// The parts, beside those of the bare handler, and the functions.
    pub fn print(&self, bare: &Self) {
        println!("| by source | own instructions | beyond bare |");
        println!("|---|---|---|");
        for (part, count) in sorted(&self.parts) {
            let (count, bare) = (
                per(count, self.requests),
                per(bare.parts.get(part).copied().unwrap_or(0), bare.requests),
            );
            if count >= 10 {
                println!("| {part} | {count} | {:+} |", count - bare);
            }
        }
        let of_library = |(name, _): &(&str, u64)| {
            ["idempotent_runtime", "moka::", "blake3::"].iter().any(|of| name.contains(of))
                && !name.starts_with("core::ptr::drop_in_place")
        };
        let functions: Vec<_> =
            sorted(&self.functions).into_iter().filter(of_library).take(LISTED).collect();
        if functions.is_empty() {
            return;
        }
        println!("\n| function, with what it calls | instructions |");
        println!("|---|---|");
        for (name, count) in functions {
            println!("| `{}` | {} |", shortened(name), per(count, self.requests));
        }
    }
}

fn per(count: u64, requests: u64) -> i64 {
    i64::try_from(count / requests).unwrap_or(i64::MAX)
}

/// The most expensive first.
fn sorted(counts: &HashMap<String, u64>) -> Vec<(&str, u64)> {
    let mut sorted: Vec<_> = counts.iter().map(|(name, count)| (name.as_str(), *count)).collect();
    sorted.sort_by_key(|&(name, count)| (std::cmp::Reverse(count), name));
    sorted
}

/// The cost in a line `<position> <cost>`.
fn cost(line: &str) -> Option<u64> {
    let (position, cost) = line.split_once(' ')?;
    position
        .starts_with(|first: char| first.is_ascii_digit() || "+-*".contains(first))
        .then_some(())?;
    cost.parse().ok()
}

/// The number in `calls=<number> <position>`.
fn calls(value: &str) -> u64 {
    value.split(' ').next().and_then(|calls| calls.parse().ok()).expect("calls are counted")
}

/// A name is written once, as `(7) name`, and from then on as `(7)`.
#[derive(Default)]
struct Names(HashMap<(&'static str, String), String>);

impl Names {
    fn get(&mut self, kind: &'static str, value: &str) -> String {
        let (id, name) = value.split_once(' ').unwrap_or((value, ""));
        let known = self.0.entry((kind, id.to_owned())).or_default();
        if !name.is_empty() {
            name.clone_into(known);
        }
        known.clone()
    }
}

/// The crate, and of this library the module, that one of `files` belongs to, the first known.
fn part(files: &[&str], function: &str, object: &str) -> String {
    if let Some(part) = files.iter().find_map(|file| crate_of(file)) {
        return part;
    }
    if object.contains("libc") {
        let is_any = |parts: &[&str]| parts.iter().any(|part| function.contains(part));
        return match () {
            () if is_any(&["alloc", "free", "_int_", "unlink_chunk"]) => "malloc and free",
            () if is_any(&["memcpy", "memmove", "memset", "memcmp", "bcmp"]) => "memcpy, memcmp",
            () => "libc",
        }
        .to_owned();
    }
    if function.starts_with("core::ptr::drop_in_place") { "drop glue" } else { "std" }.to_owned()
}

fn crate_of(file: &str) -> Option<String> {
    let after = |marker: &str| file.split_once(marker).map(|(_, after)| after);
    if let Some(module) = after("idempotent-runtime/src/") {
        return Some(format!("**{}**", module.trim_end_matches(".rs")));
    }
    if let Some(path) = after("/registry/src/") {
        let package = path.split('/').nth(1)?;
        return Some(package.rsplit_once('-').map_or(package, |(name, _version)| name).to_owned());
    }
    file.contains("benches/src/").then(|| "this benchmark".to_owned())
}

/// Without the generic arguments, which can be pages long.
fn shortened(name: &str) -> String {
    const LENGTH: usize = 110;
    if name.chars().count() <= LENGTH {
        name.to_owned()
    } else {
        name.chars().take(LENGTH).chain(['…']).collect()
    }
}
