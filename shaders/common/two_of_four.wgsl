// Four neighbouring weights, zeros in the place of the two largest by size; of equal ones the first count as larger.
fn unseen(w: vec4<f32>) -> vec4<f32> {
    let a = abs(w);
    let before = vec4<u32>(
        u32(a.y > a.x) + u32(a.z > a.x) + u32(a.w > a.x),
        u32(a.x >= a.y) + u32(a.z > a.y) + u32(a.w > a.y),
        u32(a.x >= a.z) + u32(a.y >= a.z) + u32(a.w > a.z),
        u32(a.x >= a.w) + u32(a.y >= a.w) + u32(a.z >= a.w),
    );
    return select(w, vec4<f32>(), before < vec4<u32>(2u));
}
