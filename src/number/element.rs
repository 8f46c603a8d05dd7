//! Element types: the floating-point types in which rules compute. A new type is one line of
//! `element!`, its `Sealed` impl and a [`Kind`].

use std::ops::{Add, Div, Mul, Sub};

/// Magnitudes below which a quantity is replaced by zero before it is used.
///
/// A processor takes many times longer for a subnormal number than for a normal one, and training
/// produces subnormal numbers: under zero gradients a first moment decays into the subnormal range
/// and would stay there for ever. The floors are high enough that products of the remaining numbers
/// are normal for ordinary coefficients, and far below any magnitude that moves a parameter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Floors<E> {
    /// The smallest normal number.
    pub tiny: E,
    /// Floor of the scaled gradient, and of the parameter in its decay and penalty terms.
    pub grad: E,
    /// Floor of the gradient before it is squared.
    pub square: E,
    /// Floor of the first moment and of the momentum buffer.
    pub average: E,
    /// Floor of the second moment and of its running maximum.
    pub average_sq: E,
    /// Floor of the gradient in the norm, whose squares are summed in `f64` for every type.
    pub norm: E,
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
}

/// A floating-point type of parameters.
///
/// Sealed, because the core relies on every bit pattern being a valid value.
pub trait Element:
    sealed::Sealed
    + Copy
    + Send
    + Sync
    + PartialOrd
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + 'static
{
    /// Zero.
    const ZERO: Self;
    /// One.
    const ONE: Self;
    /// Infinity.
    const INFINITY: Self;
    /// The largest finite number.
    const MAX: Self;
    /// Magnitudes below which numbers count as zero.
    const FLOORS: Floors<Self>;
    /// The smallest power of two whose square overflows.
    const SQUARE_LIMIT: Self;
    /// The smallest `eps` allowed: large enough that the floors do not hide it.
    const EPS_MIN: f64;
    /// This type as a run-time value.
    const KIND: Kind;

    /// Converts to this type, rounding once to nearest.
    fn from_f64(x: f64) -> Self;
    /// Converts to `f64`, exactly.
    fn to_f64(self) -> f64;
    /// Square root, correctly rounded.
    fn sqrt(self) -> Self;
    /// Absolute value.
    fn abs(self) -> Self;

    /// Zero if the magnitude is below `floor`, else the number itself; NaN is kept.
    #[inline(always)]
    fn flush(self, floor: Self) -> Self {
        if self.abs() < floor { Self::ZERO } else { self }
    }
}

/// An [`Element`] type as a run-time value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `f32`
    F32,
    /// `f64`
    F64,
}

impl Kind {
    /// NumPy's name for the type.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::F32 => "float32",
            Kind::F64 => "float64",
        }
    }

    /// Bytes per element.
    pub const fn size(self) -> usize {
        match self {
            Kind::F32 => size_of::<f32>(),
            Kind::F64 => size_of::<f64>(),
        }
    }

    /// The smallest `eps` allowed for parameters of this type.
    pub(crate) const fn eps_min(self) -> f64 {
        match self {
            Kind::F32 => f32::EPS_MIN,
            Kind::F64 => f64::EPS_MIN,
        }
    }
}

/// `2^exponent` at compile time; the result must be a normal number.
const fn exp2(exponent: i32) -> f64 {
    f64::from_bits(((exponent + 1023) as u64) << 52)
}

macro_rules! element {
    ($float:ident, $kind:ident, eps_min: $eps_min:literal, square_limit: $limit:literal,
     tiny: $tiny:literal, grad: $grad:literal, square: $square:literal, average: $average:literal,
     average_sq: $average_sq:literal, norm: $norm:literal) => {
        impl Element for $float {
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            const INFINITY: Self = $float::INFINITY;
            const MAX: Self = $float::MAX;
            const FLOORS: Floors<Self> = Floors {
                tiny: exp2($tiny) as $float,
                grad: exp2($grad) as $float,
                square: exp2($square) as $float,
                average: exp2($average) as $float,
                average_sq: exp2($average_sq) as $float,
                norm: exp2($norm) as $float,
            };
            const SQUARE_LIMIT: Self = exp2($limit) as $float;
            const EPS_MIN: f64 = $eps_min;
            const KIND: Kind = Kind::$kind;

            #[inline(always)]
            fn from_f64(x: f64) -> Self {
                x as $float
            }

            #[inline(always)]
            fn to_f64(self) -> f64 {
                f64::from(self)
            }

            #[inline(always)]
            fn sqrt(self) -> Self {
                $float::sqrt(self)
            }

            #[inline(always)]
            fn abs(self) -> Self {
                $float::abs(self)
            }
        }
    };
}

element!(f32, F32, eps_min: 1e-15, square_limit: 64,
    tiny: -126, grad: -102, square: -57, average: -100, average_sq: -115, norm: -102);
element!(f64, F64, eps_min: 1e-120, square_limit: 512,
    tiny: -1022, grad: -969, square: -505, average: -967, average_sq: -1011, norm: -505);
