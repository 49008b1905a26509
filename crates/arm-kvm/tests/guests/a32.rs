//! Guest programs in A32.

use cubie_arm_kvm::GuestMode;

use crate::harness::{Programs, VECTORS};

pub(crate) const PROGRAMS: Programs = Programs {
    mode: GuestMode::Aarch32,
    io: &[
        0xe3a0_140a, // mov r1, #0x0a000000
        0xe304_0b4f, // movw r0, #0x4b4f
        0xe581_0000, // str r0, [r1]
        0xe1d1_20b8, // ldrh r2, [r1, #8]
        0xe5c1_2018, // strb r2, [r1, #24]
    ],
    system_off: &[
        0xe300_0008, // movw r0, #8
        0xe348_0400, // movt r0, #0x8400
        0xe140_0070, // hvc #0
    ],
    system_reset: &[
        0xe300_0009, // movw r0, #9
        0xe348_0400, // movt r0, #0x8400
        0xe140_0070, // hvc #0
    ],
    cpu_on: &[
        0xe300_0003, // movw r0, #3
        0xe348_0400, // movt r0, #0x8400
        0xe3a0_1001, // mov r1, #1
        0xe302_2000, // movw r2, #0x2000
        0xe344_2000, // movt r2, #0x4000
        0xe3a0_3077, // mov r3, #0x77
        0xe140_0070, // hvc #0
        0xe320_f003, // wfi
        0xeaff_fffd, // b .-4
    ],
    second: &[
        0xe3a0_140a, // mov r1, #0x0a000000
        0xe581_0000, // str r0, [r1]
        0xee10_2fb0, // mrc p15, 0, r2, c0, c0, 5
        0xe5c1_2000, // strb r2, [r1]
    ],
    spin: &[
        0xe3a0_140a, // mov r1, #0x0a000000
        0xe581_0000, // str r0, [r1]
        0xeaff_fffe, // b .
    ],
    echo: &[
        0xe3a0_140a, // mov r1, #0x0a000000
        0xe591_0060, // ldr r0, [r1, #0x60]
        0xe581_0064, // str r0, [r1, #0x64]
        0xeaff_fffc, // b .-8
    ],
    count: [
        &[
            0xe3a0_140a, // mov r1, #0x0a000000
            0xe3a0_0000, // mov r0, #0
            0xe581_0080, // str r0, [r1, #0x80]
            0xe280_0001, // add r0, r0, #1
            0xeaff_fffc, // b .-8
        ],
        &[
            0xe3a0_140a, // mov r1, #0x0a000000
            0xe3a0_0000, // mov r0, #0
            0xe581_0084, // str r0, [r1, #0x84]
            0xe280_0001, // add r0, r0, #1
            0xeaff_fffc, // b .-8
        ],
    ],
    take_irq: &[
        0xe301_0000, // movw r0, #0x1000
        0xe344_0000, // movt r0, #0x4000
        0xee0c_0f10, // mcr p15, 0, r0, c12, c0, 0
        0xe301_1000, // movw r1, #0x1000
        0xe340_11c8, // movt r1, #0x01c8
        0xe302_2000, // movw r2, #0x2000
        0xe340_21c8, // movt r2, #0x01c8
        0xe3a0_3001, // mov r3, #1
        0xe581_3000, // str r3, [r1]
        0xe582_3000, // str r3, [r2]
        0xe3a0_30ff, // mov r3, #0xff
        0xe582_3004, // str r3, [r2, #4]
        0xe3a0_3008, // mov r3, #8
        0xe581_3104, // str r3, [r1, #0x104]
        0xe3a0_3080, // mov r3, #0x80
        0xe581_3c08, // str r3, [r1, #0xc08]
        0xe3a0_3401, // mov r3, #0x01000000
        0xe581_3820, // str r3, [r1, #0x820]
        0xe3a0_440a, // mov r4, #0x0a000000
        0xe3a0_0000, // mov r0, #0
        0xe584_0000, // str r0, [r4]
        0xf108_0080, // cpsie i
        0xe320_f003, // wfi
        0xeaff_fffd, // b .-4
    ],
    irq_handler: &[
        0xe592_500c, // ldr r5, [r2, #0xc]
        0xe582_5010, // str r5, [r2, #0x10]
        0xe584_5008, // str r5, [r4, #8]
        0xe25e_f004, // subs pc, lr, #4
    ],
    irq_vector: VECTORS + 0x18, // IRQ (ARM DDI 0487 G1.13.1)
};

/// Stores what the boot protocol is about: r0, r1, r2, CPSR.
pub(crate) const BOOT_STATE: &[u32] = &[
    0xe3a0_440a, // mov r4, #0x0a000000
    0xe584_0000, // str r0, [r4]
    0xe584_1000, // str r1, [r4]
    0xe584_2000, // str r2, [r4]
    0xe10f_5000, // mrs r5, cpsr
    0xe584_5000, // str r5, [r4]
];

/// In IRQ mode, gives SPSR a value and stores it; then stores what SPSR is now.
pub(crate) const KEEP_SPSR: &[u32] = &bank_spsr(0xe3a0_0e1d); // mov r0, #0x1d0

/// The same with another value.
pub(crate) const CHANGE_SPSR: &[u32] = &bank_spsr(0xe3a0_0e11); // mov r0, #0x110

const fn bank_spsr(mov_r0: u32) -> [u32; 7] {
    [
        0xf102_0012, // cps #0x12
        0xe3a0_140a, // mov r1, #0x0a000000
        mov_r0,
        0xe16f_f000, // msr spsr_cxsf, r0
        0xe581_0000, // str r0, [r1]
        0xe14f_2000, // mrs r2, spsr
        0xe581_2000, // str r2, [r1]
    ]
}
