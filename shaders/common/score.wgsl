// What becomes of a scaled product s of query q and key k, and the derivative of that, for attention with WGSL of the user: his text stands
// here then (engine/src/snippet.rs).

fn score(s: f32, q: u32, k: u32, head: u32, batch: u32) -> f32 {
    return s;
}

fn score_grad(s: f32, q: u32, k: u32, head: u32, batch: u32) -> f32 {
    return 1.0;
}
