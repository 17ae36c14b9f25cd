//! The mixers of models: the same results and gradients on the GPU as on the CPU.

use wgrad::nn::Build;
use wgrad::{DType, Device, Mask, Tensor};
use wgrad_models::Result;
use wgrad_models::attention::{Attention, AttentionConfig, DynamicConfig, Pass, Project, Scores};
use wgrad_models::mixer::{
    Direction, Estimated, EstimatedConfig, GatedLinear, GatedLinearConfig, Kronecker, KroneckerKind, Latent,
    LatentConfig, Mixer, NativeSparse, NativeSparseConfig, WindowGlobal,
};
use wgrad_tests::{Input, Tolerance, compare, each_device};

const LENGTH: usize = 37;
const HIDDEN: usize = 16;

fn attention() -> AttentionConfig {
    let project = Project::Apart { query: "query", key: "key", value: "value" };
    AttentionConfig::new(2, 8, project, "output")
}

/// The output and the gradients of the input and of all parameters, on a device.
fn results(make: &dyn Fn(&Build) -> Result<Box<dyn Mixer>>, device: &Device) -> Vec<Vec<f64>> {
    // Parameters are drawn on a CPU device that no other test draws on, and moved.
    let cpu = Device::new_cpu();
    cpu.set_seed(8);
    let drawn = make(&Build::new(&cpu)).unwrap().named_parameters();
    let mixer = make(&Build::new(device)).unwrap();
    for ((_, param), (_, value)) in mixer.named_parameters().iter().zip(&drawn) {
        param.set(&value.tensor().detach().to_device(device).unwrap()).unwrap();
    }
    let mut pass = Pass::new(&Mask::causal(0), 0, mixer.window().into_iter().map(Some));
    let positions = Tensor::arange(0, LENGTH as i64, DType::I32, device).unwrap();
    pass.positions = Some(positions.unsqueeze(0).unwrap().expand(&[2, LENGTH]).unwrap());
    // The last tokens of the second sample are padding, for mixers that ask.
    let real = (0..2 * LENGTH).map(|n| n < 2 * LENGTH - 3).collect();
    pass.real = Some(Tensor::from_vec(real, &[2, LENGTH], device).unwrap());
    let x = Input::normal(&[2, LENGTH, HIDDEN], 5).stored(device, DType::F32).unwrap().requires_grad();
    let weights = Input::normal(&[2, LENGTH, HIDDEN], 6).stored(device, DType::F32).unwrap();
    let y = mixer.mix(&x, &pass).unwrap();
    let gradients = y.mul(&weights).unwrap().sum_all().unwrap().backward().unwrap();
    let mut found = vec![y.to_f64_vec().unwrap(), gradients.get(&x).unwrap().to_f64_vec().unwrap()];
    for (_, param) in mixer.named_parameters() {
        found.push(param.gradient(&gradients).map_or(Vec::new(), |g| g.to_f64_vec().unwrap()));
    }
    found
}

#[test]
fn devices_agree() {
    let native =
        NativeSparseConfig { heads: 4, key_heads: 2, head_dim: 4, block: 4, chosen: 3, window: 5, theta: 100.0 };
    let estimated =
        EstimatedConfig { columns: 8, keys: 4, features: 16, direction: Direction::Causal { longest: LENGTH } };
    let both = EstimatedConfig { direction: Direction::Both, ..estimated };
    let gated = GatedLinearConfig { heads: 2, head_dim: 8, rotations: true, layer: [0, 2], chunk: 8 };
    let latent = LatentConfig {
        heads: 2,
        query_rank: 8,
        rank: 8,
        plain_dim: 4,
        rotary_dim: 4,
        value_dim: 8,
        theta: 100.0,
        eps: 1e-6,
    };
    let dynamic = DynamicConfig { rates: "rates", steps: "steps", bias: true, keep: 6 };
    let dynamic = AttentionConfig { scores: Scores::Dynamic(dynamic), ..attention() };
    type Make<'a> = (&'a str, Box<dyn Fn(&Build) -> Result<Box<dyn Mixer>>>);
    let mixers: Vec<Make> = vec![
        ("attention", Box::new(|build| Ok(Box::new(Attention::new(attention(), HIDDEN, build)?)))),
        ("dynamic", Box::new(move |build| Ok(Box::new(Attention::new(dynamic, HIDDEN, build)?)))),
        ("native sparse", Box::new(move |build| Ok(Box::new(NativeSparse::new(native, HIDDEN, build)?)))),
        ("estimated", Box::new(move |build| Ok(Box::new(Estimated::new(estimated, &attention(), HIDDEN, build)?)))),
        (
            "estimated both ways",
            Box::new(move |build| Ok(Box::new(Estimated::new(both, &attention(), HIDDEN, build)?))),
        ),
        ("gated linear", Box::new(move |build| Ok(Box::new(GatedLinear::new(gated, HIDDEN, build)?)))),
        ("latent", Box::new(move |build| Ok(Box::new(Latent::new(latent, HIDDEN, build)?)))),
        ("window and global", Box::new(|build| Ok(Box::new(WindowGlobal::new(&attention(), 9, 2, HIDDEN, build)?)))),
        (
            "kronecker",
            Box::new(|build| Ok(Box::new(Kronecker::new(KroneckerKind::Positions, 2, [1, LENGTH], HIDDEN, build)?))),
        ),
    ];
    for (name, make) in &mixers {
        let want = results(make, &Device::cpu());
        each_device(|device| {
            for (number, (got, want)) in results(make, device).iter().zip(&want).enumerate() {
                let largest = want.iter().fold(1.0, |m: f64, x| m.max(x.abs()));
                let tolerance = Tolerance::of(DType::F32, largest).times(20.0);
                compare(got, want, tolerance).unwrap_or_else(|e| panic!("{name}, result {number} on {device}: {e}"));
            }
        });
    }
}
