// The k smallest keys of each row, and where they stand, in ascending order of their places; of equal keys the first.
//
// keys: [rows, n]; picked, places: [rows, k]. One workgroup for each row: the k-th key is found by its bytes, from the highest on, each
// by counting the keys that begin as it does (radix select). Each invocation has n / WORKGROUP neighbours, so that few barriers are
// needed.

const WORKGROUP: u32 = 64u;

struct Params {
    rows: u32,
    n: u32,
    k: u32,
}

@group(0) @binding(0) var<storage, read> keys: array<u32>;
@group(0) @binding(1) var<storage, read_write> picked: array<u32>;
@group(0) @binding(2) var<storage, read_write> places: array<u32>;
@group(1) @binding(0) var<uniform> p: Params;

var<workgroup> counts: array<atomic<u32>, 256>;
// The bytes found, and how many of the keys that begin with them are among the smallest.
var<workgroup> found: vec2<u32>;
// Of each invocation's keys: those below the k-th, and those equal to it.
var<workgroup> below: array<u32, WORKGROUP>;
var<workgroup> equal: array<u32, WORKGROUP>;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let row = wg.x + wg.y * nwg.x;
    if (row < p.rows) {
        let share = (p.n + WORKGROUP - 1u) / WORKGROUP;
        let start = row * p.n + min(local * share, p.n);
        let end = row * p.n + min((local + 1u) * share, p.n);
        var state = vec2<u32>(0u, p.k);
        for (var byte = 0u; byte < 4u; byte++) {
            let shift = 24u - 8u * byte;
            for (var bin = local; bin < 256u; bin += WORKGROUP) { atomicStore(&counts[bin], 0u); }
            workgroupBarrier();
            for (var i = start; i < end; i++) {
                let key = keys[i];
                // The bytes before, of which there are none at first: a shift by 32 would be one by 0.
                if (byte == 0u || (key >> (shift + 8u)) == (state.x >> (shift + 8u))) {
                    atomicAdd(&counts[(key >> shift) & 255u], 1u);
                }
            }
            workgroupBarrier();
            if (local == 0u) {
                var bin = 0u;
                var rest = state.y;
                for (; bin < 255u; bin++) {
                    let count = atomicLoad(&counts[bin]);
                    if (count >= rest) { break; }
                    rest -= count;
                }
                found = vec2<u32>(state.x | (bin << shift), rest);
            }
            state = workgroupUniformLoad(&found);
        }
        var own = vec2<u32>();
        for (var i = start; i < end; i++) {
            own += vec2<u32>(select(0u, 1u, keys[i] < state.x), select(0u, 1u, keys[i] == state.x));
        }
        below[local] = own.x;
        equal[local] = own.y;
        workgroupBarrier();
        // What the invocations before have: all their smaller keys, and of the equal ones the first.
        var before = vec2<u32>();
        for (var other = 0u; other < local; other++) { before += vec2<u32>(below[other], equal[other]); }
        var place = row * p.k + before.x + min(before.y, state.y);
        var ties = before.y;
        for (var i = start; i < end; i++) {
            let key = keys[i];
            let is_tie = key == state.x;
            if (key < state.x || (is_tie && ties < state.y)) {
                picked[place] = key;
                places[place] = i - row * p.n;
                place++;
            }
            ties += select(0u, 1u, is_tie);
        }
    }
}
