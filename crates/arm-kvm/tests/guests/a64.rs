//! Guest programs in A64.

use cubie_arm_kvm::GuestMode;

use crate::harness::{Programs, VECTORS};

pub(crate) const PROGRAMS: Programs = Programs {
    mode: GuestMode::Aarch64,
    io: &[
        0xd2a1_4001, // mov x1, #0x0a000000
        0x5289_69e0, // movz w0, #0x4b4f
        0xb900_0020, // str w0, [x1]
        0x7940_1022, // ldrh w2, [x1, #8]
        0xf900_0822, // str x2, [x1, #16]
        0x3900_6022, // strb w2, [x1, #24]
    ],
    system_off: &[
        0x5280_0100, // movz w0, #8
        0x72b0_8000, // movk w0, #0x8400, lsl #16
        0xd400_0002, // hvc #0
    ],
    system_reset: &[
        0x5280_0120, // movz w0, #9
        0x72b0_8000, // movk w0, #0x8400, lsl #16
        0xd400_0002, // hvc #0
    ],
    cpu_on: &[
        0x5280_0060, // movz w0, #3
        0x72b8_8000, // movk w0, #0xc400, lsl #16
        0xd280_0021, // mov x1, #1
        0xd284_0002, // movz x2, #0x2000
        0xf2a8_0002, // movk x2, #0x4000, lsl #16
        0xd280_0ee3, // mov x3, #0x77
        0xd400_0002, // hvc #0
        0xd503_207f, // wfi
        0x17ff_ffff, // b .-4
    ],
    second: &[
        0xd2a1_4001, // mov x1, #0x0a000000
        0xb900_0020, // str w0, [x1]
        0xd538_00a2, // mrs x2, mpidr_el1
        0x3900_0022, // strb w2, [x1]
    ],
    spin: &[
        0xd2a1_4001, // mov x1, #0x0a000000
        0xb900_0020, // str w0, [x1]
        0x1400_0000, // b .
    ],
    echo: &[
        0xd2a1_4001, // mov x1, #0x0a000000
        0xb940_6020, // ldr w0, [x1, #0x60]
        0xb900_6420, // str w0, [x1, #0x64]
        0x17ff_fffe, // b .-8
    ],
    count: [
        &[
            0xd2a1_4001, // mov x1, #0x0a000000
            0x5280_0000, // mov w0, #0
            0xb900_8020, // str w0, [x1, #0x80]
            0x1100_0400, // add w0, w0, #1
            0x17ff_fffe, // b .-8
        ],
        &[
            0xd2a1_4001, // mov x1, #0x0a000000
            0x5280_0000, // mov w0, #0
            0xb900_8420, // str w0, [x1, #0x84]
            0x1100_0400, // add w0, w0, #1
            0x17ff_fffe, // b .-8
        ],
    ],
    take_irq: &[
        0xd282_0000, // movz x0, #0x1000
        0xf2a8_0000, // movk x0, #0x4000, lsl #16
        0xd518_c000, // msr vbar_el1, x0
        0xd282_0001, // movz x1, #0x1000
        0xf2a0_3901, // movk x1, #0x01c8, lsl #16
        0xd284_0002, // movz x2, #0x2000
        0xf2a0_3902, // movk x2, #0x01c8, lsl #16
        0x5280_0023, // mov w3, #1
        0xb900_0023, // str w3, [x1]
        0xb900_0043, // str w3, [x2]
        0x5280_1fe3, // mov w3, #0xff
        0xb900_0443, // str w3, [x2, #4]
        0x5280_0103, // mov w3, #8
        0xb901_0423, // str w3, [x1, #0x104]
        0x5280_1003, // mov w3, #0x80
        0xb90c_0823, // str w3, [x1, #0xc08]
        0x52a0_2003, // mov w3, #0x01000000
        0xb908_2023, // str w3, [x1, #0x820]
        0xd2a1_4004, // mov x4, #0x0a000000
        0xb900_009f, // str wzr, [x4]
        0xd503_42ff, // msr daifclr, #2
        0xd503_207f, // wfi
        0x17ff_ffff, // b .-4
    ],
    irq_handler: &[
        0xb940_0c45, // ldr w5, [x2, #0xc]
        0xb900_1045, // str w5, [x2, #0x10]
        0xb900_0885, // str w5, [x4, #8]
        0xd69f_03e0, // eret
    ],
    irq_vector: VECTORS + 0x280, // IRQ from the current EL with SP_ELx (ARM DDI 0487 D1.3.1.4)
};

/// Stores what the boot protocol is about: x0, CurrentEL, DAIF.
pub(crate) const BOOT_STATE: &[u32] = &[
    0xd2a1_4004, // mov x4, #0x0a000000
    0xf900_0080, // str x0, [x4]
    0xd538_4245, // mrs x5, CurrentEL
    0xf900_0085, // str x5, [x4]
    0xd53b_4225, // mrs x5, daif
    0xf900_0085, // str x5, [x4]
];

/// A load that the CPU describes to nobody.
pub(crate) const LOAD_PAIR: &[u32] = &[
    0xd2a1_4001, // mov x1, #0x0a000000
    0xa940_0c22, // ldp x2, x3, [x1]
];

/// Kicks queue 7, then queue 8.
pub(crate) const NOTIFY: &[u32] = &[
    0xd2a1_4001, // mov x1, #0x0a000000
    0x5280_00e0, // mov w0, #7
    0xb900_5020, // str w0, [x1, #0x50]
    0x5280_0100, // mov w0, #8
    0xb900_5020, // str w0, [x1, #0x50]
];
