// Attention forward (common/forward_lanes.wgsl) by subgroups that have 16 queries each.

const ROWS = 16u;

//#import common/forward_lanes.wgsl
