//! Sizes of the structs, and offsets of their fields, in bytes, where addresses have 64 bits: what
//! the header means to programs that are compiled. It stays so as long as the version of the binary
//! interface does.

#![cfg(target_pointer_width = "64")]

use std::mem::offset_of;

use crate::options::Options;
use crate::setting::Step;
use crate::tensor::Tensor;

macro_rules! layout {
    ($($name:ident $size:literal { $($field:ident $offset:literal)* })*) => {$(
        const _: () = {
            assert!(size_of::<$name>() == $size && align_of::<$name>() == 8);
            $(assert!(offset_of!($name, $field) == $offset);)*
        };
    )*};
}

layout! {
    Options 144 {
        size 0 rule 8 amsgrad 12 nesterov 13 centered 14 cautious 15 independent 16 maximize 17
        reserved 18 lr 24 beta1 32 beta2 40 eps 48 l2 56 weight_decay 64 momentum 72 dampening 80
        alpha 88 eps_root 96 lr_decay 104 initial_accumulator_value 112 r 120 weight_lr_power 128
        update_rms 136
    }
    Tensor 192 {
        size 0 name 8 p 16 g 24 state 32 low 56 bases 64 history 72 shape 80 dims 88 len 96 rows 104
        row_stride 112 step 160 group 168 dtype 172 grad_dtype 176 state_dtype 180
    }
    Step 72 {
        size 0 scale 8 max_norm 16 max_value 24 nonfinite 32 threads 36 grad_norm 40 clip 48
        refused 56 overflowed 64
    }
}
