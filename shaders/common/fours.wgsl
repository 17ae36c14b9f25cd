// Each invocation makes FOURS groups of four elements, WORKGROUP apart, so that neighbours touch neighbouring memory.

override WORKGROUP: u32 = 256u;
override FOURS: u32 = 1u;

// The first of its fours.
fn first_four(group: u32, local: u32) -> u32 {
    return group * (WORKGROUP * FOURS) + local;
}
