//! Steps of optimizers, and clipping.

use wgrad::Gradients;
use wgrad::nn::Param;
use wgrad::optim::{Adam, Group, Optimizer, Rule, Sgd, clip_grad_norm};

use crate::args::{Args, Op, Outputs};
use crate::fixture::Fallible;

pub fn find(op: &str) -> Option<Op> {
    let op: Op = match op {
        "adamw_steps" => |a| steps(a, Rule::AdamW(adam(a)?)),
        "adam_steps" => |a| steps(a, Rule::Adam(adam(a)?)),
        "sgd_steps" => |a| {
            let nesterov = a.get::<Option<bool>>("nesterov")?.unwrap_or(false);
            let momentum = a.get::<Option<f64>>("momentum")?.unwrap_or(0.0);
            let weight_decay = a.get::<Option<f64>>("weight_decay")?.unwrap_or(0.0);
            steps(a, Rule::Sgd(Sgd { momentum, nesterov, weight_decay }))
        },
        "clip_grad_norm" => |a| {
            let (norm, clipped) = clip_grad_norm(&a.numbered("x"), a.get("max_norm")?)?;
            let numbered = clipped.into_iter().enumerate().map(|(i, y)| (format!("y{i}"), y));
            Ok([("total_norm".to_string(), norm)].into_iter().chain(numbered).collect())
        },
        _ => return None,
    };
    Some(op)
}

fn adam(a: &Args) -> Fallible<Adam> {
    let (beta1, beta2) = a.get("betas")?;
    Ok(Adam { beta1, beta2, eps: a.get("eps")?, weight_decay: a.get("weight_decay")? })
}

/// `param` after a step with each slice of `grads`.
fn steps(a: &Args, rule: Rule) -> Fallible<Outputs> {
    let param = Param::new(a.t("param")?)?;
    let mut optimizer = Optimizer::new(rule, a.get("lr")?, vec![Group::new(vec![("param".into(), param.clone())])])?;
    for step in 0..a.get("steps")? {
        let mut gradients = Gradients::default();
        gradients.set(&param.tensor(), a.t("grads")?.select(0, step)?)?;
        optimizer.step(&gradients)?;
    }
    Ok(vec![("out".into(), param.tensor())])
}
