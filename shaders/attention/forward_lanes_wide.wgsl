// Attention forward (common/forward_lanes.wgsl) by subgroups that have 32 queries each: fewer loads, but three times as long to compile.

const ROWS = 32u;

//#import common/forward_lanes.wgsl
