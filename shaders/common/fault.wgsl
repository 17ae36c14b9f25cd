// Notes the first index that is out of range: set, code of the operation, index, size. The engine reads it with the next
// result. The file that imports this binds `fault: array<atomic<u32>>`.

fn report_fault(code: u32, index: u32, size: u32) {
    if (atomicOr(&fault[0], 1u) == 0u) {
        atomicStore(&fault[1], code);
        atomicStore(&fault[2], index);
        atomicStore(&fault[3], size);
    }
}
