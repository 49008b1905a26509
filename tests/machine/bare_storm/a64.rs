//! The driver in A64.

/// Its first instruction, and the one at which the second CPU begins.
pub(super) const MAIN: &[u32] = &[
    0xd2a8_0020, // movz x0, #0x4001, lsl #16
    0xaa00_03f3, // begin: mov x19, x0
    0xd288_0001, // movz x1, #0x4000
    0xf2a8_0001, // movk x1, #0x4000, lsl #16
    0xd518_2001, // msr ttbr0_el1, x1
    0x529f_e001, // mov w1, #0xff00
    0xd518_a201, // msr mair_el1, x1
    0x5286_a401, // movz w1, #0x3520
    0x72a0_1001, // movk w1, #0x80, lsl #16
    0xd518_2041, // msr tcr_el1, x1
    0xd503_3fdf, // isb
    0xd508_871f, // tlbi vmalle1
    0xd503_379f, // dsb nsh
    0xd503_3fdf, // isb
    0xd538_1001, // mrs x1, sctlr_el1
    0xb240_0021, // orr x1, x1, #0x1
    0xb27e_0021, // orr x1, x1, #0x4
    0xb274_0021, // orr x1, x1, #0x1000
    0xd518_1001, // msr sctlr_el1, x1
    0xd503_3fdf, // isb
    0xd282_0001, // movz x1, #0x1000
    0xf2a8_0001, // movk x1, #0x4000, lsl #16
    0xd518_c001, // msr vbar_el1, x1
    0x9140_0661, // add x1, x19, #1, lsl #12
    0x28c1_0c22, // store: ldp w2, w3, [x1], #8
    0x3400_0062, // cbz w2, stored
    0xb900_0043, // str w3, [x2]
    0x17ff_fffd, // b store
    0x2940_5674, // stored: ldp w20, w21, [x19]
    0x2941_0e76, // ldp w22, w3, [x19, #8]
    0x3400_00e3, // cbz w3, ready
    0x5280_0060, // movz w0, #3
    0x72b8_8000, // movk w0, #0xc400, lsl #16
    0xd280_0021, // mov x1, #1
    0xd2a8_0002, // movz x2, #0x4000, lsl #16
    0x9100_1042, // add x2, x2, #4
    0xd400_0002, // hvc #0
    0x9140_0e77, // ready: add x23, x19, #3, lsl #12
    0x9140_1278, // add x24, x19, #4, lsl #12
    0x9140_1679, // add x25, x19, #5, lsl #12
    0x5280_001a, // mov w26, #0
    0x5280_001b, // mov w27, #0
    0x5280_003c, // mov w28, #1
    0xd503_3fbf, // dmb sy
    0x7900_06fc, // strh w28, [x23, #2]
    0xd503_3fbf, // dmb sy
    0xb900_52bf, // str wzr, [x21, #0x50]
    0xd503_42ff, // msr daifclr, #2
    0xd503_207f, // sleep: wfi
    0x17ff_ffff, // b sleep
];

/// For the vector of IRQs.
pub(super) const IRQ: &[u32] = &[
    0xb940_0e80, // ldr w0, [x20, #0xc]
    0xb940_62a1, // ldr w1, [x21, #0x60]
    0x6a36_0022, // bics w2, w1, w22
    0x5400_0040, // b.eq first
    0xb900_66a2, // str w2, [x21, #0x64]
    0x1100_077b, // first: add w27, w27, #1
    0xb900_073b, // str w27, [x25, #4]
    0x3608_00e1, // tbz w1, #1, look
    0xb940_fea3, // torn: ldr w3, [x21, #0xfc]
    0xb941_02a4, // ldr w4, [x21, #0x100]
    0xb940_fea5, // ldr w5, [x21, #0xfc]
    0x6b05_007f, // cmp w3, w5
    0x54ff_ff81, // b.ne torn
    0xb900_0324, // str w4, [x25]
    0x7940_0703, // look: ldrh w3, [x24, #2]
    0x6b1a_007f, // cmp w3, w26
    0x5400_0100, // b.eq empty
    0x2a03_03fa, // mov w26, w3
    0xd503_3fbf, // dmb sy
    0x1100_079c, // add w28, w28, #1
    0x7900_06fc, // strh w28, [x23, #2]
    0xd503_3fbf, // dmb sy
    0xb900_52bf, // str wzr, [x21, #0x50]
    0x17ff_fff7, // b look
    0x6a16_0022, // empty: ands w2, w1, w22
    0x5400_0040, // b.eq last
    0xb900_66a2, // str w2, [x21, #0x64]
    0xb900_1280, // last: str w0, [x20, #0x10]
    0xd69f_03e0, // eret
];
