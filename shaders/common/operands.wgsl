// The operands of the matrix product kernels, f32 or packed halves.

//#import common/product.wgsl

// 1 where k is the dense dimension of the operand in memory, 0 where its rows (of a) or columns (of b) are.
override A_ALONG_K: u32 = 1u;
override B_ALONG_K: u32 = 0u;
// 1 where four elements along the dense dimension are always one aligned vec4.
override A_FOURS: u32 = 0u;
override B_FOURS: u32 = 0u;

@group(0) @binding(4) var<storage, read> a: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read> b: array<vec4<f32>>;

fn load_a(i: u32) -> f32 { return a[i >> 2u][i & 3u]; }
fn load4_a(i: u32) -> vec4<f32> { return a[i]; }
fn load_b(i: u32) -> f32 { return b[i >> 2u][i & 3u]; }
fn load4_b(i: u32) -> vec4<f32> { return b[i]; }

// Four columns of b at one k, of which `at` is the index; those beyond the last repeat it.
fn b_columns(at: u32, column: u32) -> vec4<f32> {
    if (B_FOURS == 1u && B_ALONG_K == 0u) {
        return load4_b((at + min(column, p.n - 4u)) >> 2u);
    }
    let i = vec4<u32>(at) + min(vec4<u32>(column) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(p.n - 1u)) * p.b_column;
    return vec4<f32>(load_b(i.x), load_b(i.y), load_b(i.z), load_b(i.w));
}
