//! Reasons to refuse a call.

use std::cell::RefCell;
use std::ffi::{CString, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};

use thalweg::optimizer;

/// The call has done what it should.
pub const DONE: i32 = 0;
/// A step was skipped, as asked, because of its gradients.
pub const SKIPPED: i32 = 1;
/// An argument is refused.
pub const INVALID: i32 = -1;
/// Gradients are refused.
pub const NONFINITE: i32 = -2;
/// A file cannot be written or read, or is damaged.
pub const FILE: i32 = -3;
/// A file does not fit.
pub const MISMATCH: i32 = -4;
/// A panic.
pub const FAULT: i32 = -5;

/// The reason why a call was refused, and its code.
#[derive(Debug)]
pub struct Refusal {
    code: i32,
    text: String,
}

impl Refusal {
    /// An argument that is refused.
    pub fn invalid(text: impl Into<String>) -> Self {
        Refusal { code: INVALID, text: text.into() }
    }

    /// The same, with the formats of state as the header names them.
    #[must_use]
    pub fn of_state(self) -> Self {
        let names = [
            ("'full'", "THALWEG_FULL"),
            ("'bfloat16'", "THALWEG_STATE_BFLOAT16"),
            ("'compact'", "THALWEG_COMPACT"),
            ("=True", ""),
        ];
        let text = names.iter().fold(self.text, |text, (name, ours)| text.replace(name, ours));
        Refusal { text, ..self }
    }

    /// The same, said of a parameter.
    #[must_use]
    pub fn of(self, what: &str) -> Self {
        Refusal { text: format!("{what}: {}", self.text), ..self }
    }
}

impl From<thalweg::Error> for Refusal {
    fn from(error: thalweg::Error) -> Self {
        Refusal::invalid(in_c(&error.to_string()))
    }
}

impl From<optimizer::Error> for Refusal {
    fn from(error: optimizer::Error) -> Self {
        use optimizer::Error;
        let code = match &error {
            Error::NonFinite { .. } => NONFINITE,
            Error::File(_) => FILE,
            Error::Content(_) => MISMATCH,
            _ => INVALID,
        };
        Refusal { code, text: in_c(&error.to_string()) }
    }
}

/// A text of the core with the names of the header.
pub fn in_c(text: &str) -> String {
    let text = text.replace("betas[0]", "beta1").replace("betas[1]", "beta2");
    text.replace("Policy::Skip", "THALWEG_SKIP")
}

thread_local! {
    static LAST: RefCell<CString> = RefCell::default();
}

/// Runs a call: its code, or that of its refusal, whose reason is kept.
pub fn guarded(work: impl FnOnce() -> Result<i32, Refusal>) -> i32 {
    let refusal = match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(code)) => return code,
        Ok(Err(refusal)) => refusal,
        Err(panic) => {
            let said = panic.downcast_ref::<String>().map(String::as_str);
            let said = said.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or_default();
            let text = format!("a fault in thalweg, which may have updated some elements: {said}");
            Refusal { code: FAULT, text }
        }
    };
    let text = CString::new(refusal.text.replace('\0', "\\0")).unwrap_or_default();
    // A thread that ends may have none, and a signal handler may come between.
    let _ = LAST.try_with(|last| last.try_borrow_mut().map(|mut last| *last = text));
    refusal.code
}

/// `thalweg_last_error`.
#[unsafe(no_mangle)]
pub extern "C" fn thalweg_last_error() -> *const c_char {
    let text = LAST.try_with(|last| last.try_borrow().map_or(c"".as_ptr(), |last| last.as_ptr()));
    text.unwrap_or(c"".as_ptr())
}
