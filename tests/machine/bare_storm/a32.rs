//! The driver in A32.

/// Its first instruction, and the one at which the second CPU begins.
pub(super) const MAIN: &[u32] = &[
    0xe300_0000, // movw r0, #0x0000
    0xe344_0001, // movt r0, #0x4001
    0xe1a0_4000, // begin: mov r4, r0
    0xe304_104a, // movw r1, #0x404a
    0xe344_1000, // movt r1, #0x4000
    0xe3a0_0000, // mov r0, #0
    0xee02_0f50, // mcr p15, 0, r0, c2, c0, 2
    0xee02_1f10, // mcr p15, 0, r1, c2, c0, 0
    0xe3a0_0001, // mov r0, #1
    0xee03_0f10, // mcr p15, 0, r0, c3, c0, 0
    0xee08_0f17, // mcr p15, 0, r0, c8, c7, 0
    0xf57f_f04f, // dsb sy
    0xf57f_f06f, // isb
    0xee11_1f10, // mrc p15, 0, r1, c1, c0, 0
    0xe381_1005, // orr r1, r1, #5
    0xe381_1a01, // orr r1, r1, #0x1000
    0xee01_1f10, // mcr p15, 0, r1, c1, c0, 0
    0xf57f_f06f, // isb
    0xe301_0000, // movw r0, #0x1000
    0xe344_0000, // movt r0, #0x4000
    0xee0c_0f10, // mcr p15, 0, r0, c12, c0, 0
    0xe284_1a01, // add r1, r4, #0x1000
    0xe491_2004, // store: ldr r2, [r1], #4
    0xe491_3004, // ldr r3, [r1], #4
    0xe352_0000, // cmp r2, #0
    0x1582_3000, // strne r3, [r2]
    0x1aff_fffa, // bne store
    0xe594_5000, // ldr r5, [r4]
    0xe594_6004, // ldr r6, [r4, #4]
    0xe594_7008, // ldr r7, [r4, #8]
    0xe594_300c, // ldr r3, [r4, #12]
    0xe353_0000, // cmp r3, #0
    0x0a00_0005, // beq ready
    0xe300_0003, // movw r0, #3
    0xe348_0400, // movt r0, #0x8400
    0xe3a0_1001, // mov r1, #1
    0xe300_2008, // movw r2, #0x0008
    0xe344_2000, // movt r2, #0x4000
    0xe140_0070, // hvc #0
    0xe284_8a03, // ready: add r8, r4, #0x3000
    0xe284_9901, // add r9, r4, #0x4000
    0xe284_aa05, // add r10, r4, #0x5000
    0xe3a0_b000, // mov r11, #0
    0xe3a0_c001, // mov r12, #1
    0xe3a0_4000, // mov r4, #0
    0xf57f_f05f, // dmb sy
    0xe1c8_c0b2, // strh r12, [r8, #2]
    0xf57f_f05f, // dmb sy
    0xe586_4050, // str r4, [r6, #0x50]
    0xf108_0080, // cpsie i
    0xe320_f003, // sleep: wfi
    0xeaff_fffd, // b sleep
];

/// For the vector of IRQs. It keeps SPSR in memory, as kernels do, and loads no banked register from the
/// device: an emulated CPU may lose the one (docs/lab.md), and names another one to KVM for the other.
pub(super) const IRQ: &[u32] = &[
    0xe14f_2000, // mrs r2, spsr
    0xe58a_2008, // str r2, [r10, #8]
    0xe595_000c, // ldr r0, [r5, #0xc]
    0xe596_1060, // ldr r1, [r6, #0x60]
    0xe1d1_2007, // bics r2, r1, r7
    0x1586_2064, // strne r2, [r6, #0x64]
    0xe284_4001, // add r4, r4, #1
    0xe58a_4004, // str r4, [r10, #4]
    0xe311_0002, // tst r1, #2
    0x0a00_0005, // beq look
    0xe596_20fc, // torn: ldr r2, [r6, #0xfc]
    0xe596_3100, // ldr r3, [r6, #0x100]
    0xe58a_3000, // str r3, [r10]
    0xe596_30fc, // ldr r3, [r6, #0xfc]
    0xe152_0003, // cmp r2, r3
    0x1aff_fff9, // bne torn
    0xe1d9_20b2, // look: ldrh r2, [r9, #2]
    0xe152_000b, // cmp r2, r11
    0x0a00_0007, // beq empty
    0xe1a0_b002, // mov r11, r2
    0xf57f_f05f, // dmb sy
    0xe28c_c001, // add r12, r12, #1
    0xe1c8_c0b2, // strh r12, [r8, #2]
    0xf57f_f05f, // dmb sy
    0xe3a0_2000, // mov r2, #0
    0xe586_2050, // str r2, [r6, #0x50]
    0xeaff_fff4, // b look
    0xe011_2007, // empty: ands r2, r1, r7
    0x1586_2064, // strne r2, [r6, #0x64]
    0xe585_0010, // str r0, [r5, #0x10]
    0xe59a_2008, // ldr r2, [r10, #8]
    0xe16f_f002, // msr spsr_cxsf, r2
    0xe25e_f004, // subs pc, lr, #4
];
