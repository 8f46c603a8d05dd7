//! Vectorisation: the kernels use the full vector width of every CPU level. The test disassembles
//! its own executable, so it also covers levels that this machine cannot run. The environment
//! variable `OBJDUMP` names another disassembler than `objdump`.

#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic

use std::collections::BTreeSet;
use std::process::Command;

use thalweg::Level;
use thalweg::read::norm::{Input, global_norm};
use thalweg::rule::{Coefficients, Hyperparameters as _, Sgd};
use thalweg::update::plan::{Plan, Task};
use thalweg::update::tensor::Tensor;

use machine::{LEVELS, OF_BLOCKS, OF_NORMS};

/// The instructions of this processor, by the names that the SSE instruction set has for them.
#[cfg(target_arch = "x86_64")]
mod machine {
    /// What only the encoding of second moments in blocks has, of the kernels with encodings.
    pub const OF_BLOCKS: &str = "maxps";

    /// What only norms of `f32` and of `f64` have, of the kernels that add squares.
    pub const OF_NORMS: [&str; 2] = ["maxps", "maxpd"];

    /// CPU levels, and what the operands of an instruction on whole vectors have.
    pub const LEVELS: &[(&str, &[&str])] =
        &[("baseline", &["%xmm"]), ("avx2", &["%ymm"]), ("avx512", &["%zmm"])];

    /// The name without the `v` of the AVX encoding.
    pub fn name(mnemonic: &str, _operands: &str) -> String {
        mnemonic.strip_prefix('v').unwrap_or(mnemonic).to_owned()
    }

    pub fn is_fused(mnemonic: &str) -> bool {
        mnemonic.starts_with("vfm") || mnemonic.starts_with("vfnm")
    }

    pub fn is_jump(mnemonic: &str) -> bool {
        mnemonic.starts_with('j')
    }

    pub fn falls_through(mnemonic: &str) -> bool {
        !matches!(mnemonic, "jmp" | "ret" | "ud2")
    }
}

#[cfg(target_arch = "aarch64")]
mod machine {
    pub const OF_BLOCKS: &str = "umin";

    pub const OF_NORMS: [&str; 2] = ["fcvtl", "bsl"];

    pub const LEVELS: &[(&str, &[&str])] = &[("baseline", &[".4s", ".2d"])];

    /// The name as on x86-64: `fdiv v0.4s, ...` is `divps`, `fdiv d0, ...` is `divsd`.
    pub fn name(mnemonic: &str, operands: &str) -> String {
        // A sum of four numbers, of which the upper halves are kept.
        if mnemonic.trim_start_matches('r').trim_end_matches('2') == "addhn" {
            return "paddd".to_owned();
        }
        let register = operands.split(',').next().unwrap_or_default();
        let vector = register.rsplit_once('.').map(|(_, lanes)| lanes);
        let float = match vector {
            Some("4s" | "2s") => "ps",
            Some("2d") => "pd",
            None if register.starts_with('s') => "ss",
            None if register.starts_with('d') => "sd",
            _ => return mnemonic.to_owned(),
        };
        let integer = matches!(vector, Some("4s" | "2s"));
        match mnemonic {
            "fadd" | "fsub" | "fmul" | "fdiv" | "fsqrt" => format!("{}{float}", &mnemonic[1..]),
            "add" | "sub" if integer => format!("p{mnemonic}d"),
            "shl" if integer => "pslld".to_owned(),
            "ushr" if integer => "psrld".to_owned(),
            "sshr" if integer => "psrad".to_owned(),
            _ => mnemonic.to_owned(),
        }
    }

    pub fn is_fused(mnemonic: &str) -> bool {
        mnemonic.starts_with("fm") && ["la", "ls", "add", "sub"].contains(&&mnemonic[2..])
            || mnemonic.starts_with("fnm") && mnemonic != "fnmul"
    }

    pub fn is_jump(mnemonic: &str) -> bool {
        matches!(mnemonic, "b" | "cbz" | "cbnz" | "tbz" | "tbnz") || mnemonic.starts_with("b.")
    }

    pub fn falls_through(mnemonic: &str) -> bool {
        !matches!(mnemonic, "b" | "br" | "ret" | "brk" | "udf")
    }
}

/// Kernels of one kind, recognised by the instructions that they have and lack; a level must have
/// `count` of them.
struct Kernel {
    name: &'static str,
    has: &'static [&'static str],
    lacks: &'static [&'static str],
    count: usize,
}

/// A rule is compiled for each element type, and again for rows of a table, where the next memory is
/// that of another row; rules that train once more, with norms in the same pass.
/// Adam, NAdam, schedule-free AdamW, SGD and Lion are compiled twice as often, for usual coefficients
/// and for any; RMSprop for one, two and three state arrays. Adam with usual coefficients of `f32` is
/// compiled also for narrow arrays, which are decoded and encoded as integers: `f32` parameters and
/// gradients, and `bfloat16` parameters with gradients of either type, these also with `f32` moments.
/// Adam, NAdam, AdaBelief and Lion are compiled once more to measure.
const KERNELS: [Kernel; 10] = [
    Kernel {
        name: "Adam, AMSGrad, NAdam, AdaBelief, schedule-free, RMSprop, Adagrad, f32",
        has: &["sqrtps", "divps"],
        lacks: &["paddd"],
        count: 39,
    },
    Kernel {
        name: "Adam, bfloat16 weights or moments",
        has: &["sqrtps", "divps", "paddd"],
        lacks: &[OF_BLOCKS],
        count: 5,
    },
    Kernel {
        name: "Adam, second moments in blocks",
        has: &["sqrtps", "divps", "paddd", OF_BLOCKS],
        lacks: &[],
        count: 3,
    },
    Kernel {
        name: "Adam, AMSGrad, NAdam, AdaBelief, schedule-free, RMSprop, Adagrad, f64",
        has: &["sqrtpd", "divpd"],
        lacks: &[],
        count: 39,
    },
    Kernel {
        name: "SGD, momentum, Lion, decay, averages, f32",
        has: &["subps"],
        lacks: &["divps"],
        count: 24,
    },
    Kernel {
        name: "SGD, momentum, Lion, decay, averages, f64",
        has: &["subpd"],
        lacks: &["divpd"],
        count: 24,
    },
    Kernel { name: "sum, f32", has: &["mulps", "addps"], lacks: &["subps"], count: 2 },
    Kernel {
        name: "sum, f64",
        has: &["mulpd", "addpd"],
        lacks: &["subpd", "subps", OF_NORMS[0], OF_NORMS[1]],
        count: 2,
    },
    Kernel {
        name: "norm of f32",
        has: &["mulpd", "addpd", OF_NORMS[0]],
        lacks: &["subps"],
        count: 1,
    },
    Kernel {
        name: "norm of f64",
        has: &["mulpd", "addpd", OF_NORMS[1]],
        lacks: &["subpd", "subps"],
        count: 1,
    },
];

#[derive(Clone, Debug)]
struct Instruction<'a> {
    address: u64,
    mnemonic: &'a str,
    operands: &'a str,
    name: String,
}

impl<'a> Instruction<'a> {
    /// Parses `  1f0:\tvmulps %ymm0,%ymm1,%ymm2`.
    fn parse(line: &'a str) -> Option<Self> {
        let (address, text) = line.split_once(":\t")?;
        let (mnemonic, operands) = text.split_once([' ', '\t']).unwrap_or((text, ""));
        let operands = operands.trim_start();
        let address = u64::from_str_radix(address.trim(), 16).ok()?;
        Some(Instruction { address, mnemonic, operands, name: machine::name(mnemonic, operands) })
    }

    fn is_arithmetic(&self) -> bool {
        let operation = self.name.strip_suffix(['s', 'd']).and_then(|n| n.strip_suffix(['p', 's']));
        matches!(operation, Some("add" | "sub" | "mul" | "div" | "sqrt"))
    }

    fn is_packed(&self) -> bool {
        self.name.ends_with("ps") || self.name.ends_with("pd")
    }

    /// Whether it shifts or adds the bits of `f32` numbers in vectors, as encodings do.
    fn is_encoding(&self) -> bool {
        matches!(self.name.as_str(), "pslld" | "psrld" | "psrad" | "paddd" | "psubd")
    }

    /// The address before the name in `3f8 <function+0x1c>`, which other operands may precede.
    fn jump(&self) -> Option<u64> {
        let targets = self.operands.split(" <").next().filter(|_| machine::is_jump(self.mnemonic));
        u64::from_str_radix(targets?.split_whitespace().last()?, 16).ok()
    }
}

/// A function compiled for a level.
struct Function<'a> {
    level: &'a str,
    code: Vec<Instruction<'a>>,
}

fn functions(listing: &str) -> Vec<Function<'_>> {
    let mut functions = Vec::new();
    let mut inside = false;
    for line in listing.lines() {
        if let Some((_, name)) = line.strip_suffix(">:").and_then(|l| l.split_once(" <")) {
            let function = name.strip_prefix("thalweg::machine::levels::").unwrap_or_default();
            let level = function.split("::<").next().unwrap_or_default();
            inside = LEVELS.iter().any(|(name, _)| *name == level);
            if inside {
                functions.push(Function { level, code: Vec::new() });
            }
        } else if inside && let Some(instruction) = Instruction::parse(line) {
            functions.last_mut().unwrap().code.push(instruction);
        }
    }
    functions
}

impl<'a> Function<'a> {
    /// The innermost loops that compute. Other code, such as the tail of a slice or the sum of the
    /// lanes, runs once per many iterations of these loops.
    fn loops(&self) -> Vec<Vec<Instruction<'a>>> {
        let position = |address| self.code.binary_search_by_key(&address, |i| i.address).ok();
        let successors = |(index, i): (usize, &Instruction<'_>)| {
            let next = (index + 1 < self.code.len() && machine::falls_through(i.mnemonic))
                .then_some(index + 1);
            next.into_iter().chain(i.jump().and_then(position)).collect()
        };
        let edges: Vec<Vec<usize>> = self.code.iter().enumerate().map(successors).collect();
        let computes = |index: usize| self.code[index].is_arithmetic();
        let loops = innermost(&edges, (0..edges.len()).collect(), &computes);
        loops.iter().map(|body| body.iter().map(|i| self.code[*i].clone()).collect()).collect()
    }
}

type Nodes = BTreeSet<usize>;

/// The smallest loops among `nodes` that contain a wanted node.
///
/// A loop is a set of nodes that all reach each other. Its inner loops are the loops that remain
/// when its head is removed.
fn innermost(edges: &[Vec<usize>], nodes: Nodes, wanted: &dyn Fn(usize) -> bool) -> Vec<Nodes> {
    let mut reversed = vec![Vec::new(); edges.len()];
    for (from, targets) in edges.iter().enumerate() {
        targets.iter().for_each(|to| reversed[*to].push(from));
    }
    let mut left = nodes.clone();
    let mut found = Vec::new();
    while let Some(node) = left.iter().copied().find(|node| wanted(*node)) {
        let (after, before) = (reach(edges, &nodes, node), reach(&reversed, &nodes, node));
        let body: Nodes = after.intersection(&before).copied().collect();
        left.remove(&node);
        left.retain(|node| !body.contains(node));
        let enters = |node: &usize| reversed[*node].iter().any(|from| !body.contains(from));
        if let Some(head) = body.iter().copied().find(enters) {
            let mut rest = body.clone();
            rest.remove(&head);
            let inner = innermost(edges, rest, wanted);
            found.extend(if inner.is_empty() { vec![body] } else { inner });
        }
    }
    found
}

/// The nodes reachable from `node` inside `nodes`; includes `node` itself only if it is on a loop.
fn reach(edges: &[Vec<usize>], nodes: &Nodes, node: usize) -> Nodes {
    let mut reached = Nodes::new();
    let mut open = vec![node];
    while let Some(node) = open.pop() {
        let targets = edges[node].iter().copied().filter(|to| nodes.contains(to));
        open.extend(targets.filter(|to| reached.insert(*to)));
    }
    reached
}

/// The disassembly of this executable, or `None` without objdump.
fn disassemble() -> Option<String> {
    let executable = std::env::current_exe().unwrap();
    let program = std::env::var("OBJDUMP").unwrap_or_else(|_| "objdump".to_owned());
    let mut objdump = Command::new(&program);
    match objdump.args(["-d", "--no-show-raw-insn", "-C"]).arg(executable).output() {
        Ok(output) => {
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            Some(String::from_utf8_lossy(&output.stdout).into_owned())
        }
        Err(error) if std::env::var_os("CI").is_some() => panic!("{program}: {error}"),
        Err(error) => {
            eprintln!("not checked, there is no {program} (package binutils): {error}");
            None
        }
    }
}

/// Makes the linker keep the kernels: this code reaches all rules.
fn use_kernels() {
    let (mut p, g) = ([1.0_f32; 3], [0.5; 3]);
    let update = Coefficients::from(Sgd::new(0.5).at_step::<f32>(1, 1.0).unwrap()).into();
    let tensor = Tensor::from_slices(&mut p, &g, []).unwrap();
    let (level, mut norms) = (Level::current(), Vec::new());
    let tasks = &mut [Task { tensor, update: 0 }];
    Plan::default().run(tasks, &[update], level, 1).unwrap();
    Plan::default().run_measured(tasks, &[update], level, 1, &mut norms, true).unwrap();
    assert_eq!(p, [0.5; 3]);
    let input = Input::from_slice(&p);
    assert!(global_norm(&[input], level, 1).of_scaled(1.0) > 0.8);
}

/// Arithmetic of a loop that is not at full width; empty if there is none. Loops with subtractions
/// only are exempt: loads and stores bound them, and the compiler adds a second version for
/// overlapping arrays, which does not occur here.
fn narrow<'a>(body: &[Instruction<'a>], whole: &[&str]) -> Vec<Instruction<'a>> {
    let arithmetic = || body.iter().filter(|i| i.is_arithmetic());
    if arithmetic().all(|i| i.name.starts_with("sub")) {
        return Vec::new();
    }
    let fits = |i: &Instruction<'_>| {
        (i.is_packed() || i.is_encoding()) && whole.iter().any(|v| i.operands.contains(v))
    };
    let work = |i: &&Instruction<'_>| i.is_arithmetic() || i.is_encoding();
    body.iter().filter(work).filter(|i| !fits(i)).cloned().collect()
}

#[test]
fn kernels_use_full_vectors_and_nothing_else() {
    use_kernels();
    let Some(listing) = disassemble() else { return };
    let functions = functions(&listing);
    let mut narrow_loops = Vec::new();
    for (level, whole) in LEVELS {
        let mut kernels: Vec<BTreeSet<String>> = Vec::new();
        for function in functions.iter().filter(|function| function.level == *level) {
            let loops = function.loops();
            kernels.push(loops.iter().flatten().map(|i| i.name.clone()).collect());
            let narrow = loops.iter().map(|body| narrow(body, whole));
            narrow_loops.extend(narrow.filter(|found| !found.is_empty()));
        }
        for Kernel { name, has, lacks, count } in KERNELS {
            let is = |found: &&BTreeSet<String>| {
                has.iter().all(|op| found.contains(*op))
                    && !lacks.iter().any(|op| found.contains(*op))
            };
            assert_eq!(kernels.iter().filter(is).count(), count, "{level}: {name}");
        }
    }
    assert!(narrow_loops.is_empty(), "{narrow_loops:#?}");
}

#[test]
fn nothing_is_fused() {
    use_kernels();
    let Some(listing) = disassemble() else { return };
    for function in functions(&listing) {
        let fused = function.code.iter().find(|i| machine::is_fused(i.mnemonic));
        assert!(fused.is_none(), "{}: {fused:?}", function.level);
    }
}
