//! Estimated keys against their definition, in both directions.

use super::*;
use crate::attention::{Losses, Project};

const CAUSAL: Direction = Direction::Causal { longest: 64 };

fn layer(columns: usize, keys: usize, direction: Direction, device: &Device) -> Estimated {
    let project = Project::Apart { query: "query", key: "key", value: "value" };
    let attention = AttentionConfig::new(2, 8, project, "output");
    let config = EstimatedConfig { columns, keys, features: 16, direction };
    Estimated::new(config, &attention, 16, &Build::new(device)).unwrap()
}

/// The column that a key belongs to, of so many: column m begins at round(m seen / columns).
fn column(key: usize, seen: usize, columns: usize) -> usize {
    let start = |m: usize| (2 * m * seen + columns) / (2 * columns);
    (0..columns).find(|&m| start(m) <= key && key < start(m + 1)).unwrap()
}

#[test]
fn columns_part_the_keys() {
    let device = Device::cpu();
    let numbers = Tensor::arange(0, 40, DType::I32, &device).unwrap();
    let seen = Tensor::arange(1, 41, DType::I32, &device).unwrap().unsqueeze(1).unwrap();
    for columns in [4, 8, 12] {
        let got = grid::column_of(&numbers, &seen, columns).unwrap().to_vec::<u32>().unwrap();
        for (at, &got) in got.iter().enumerate().filter(|(at, _)| at % 40 <= at / 40) {
            let (seen, key) = (at / 40 + 1, at % 40);
            assert_eq!(got as usize, column(key, seen, columns), "{key} of {seen}, {columns} columns");
        }
    }
}

fn lists(index: &KeyIndex) -> Vec<Vec<usize>> {
    let room = *index.lists().shape().last().unwrap();
    let lists = index.lists().to_vec::<u32>().unwrap();
    lists.chunks(room).map(|list| list.iter().filter(|&&k| k != u32::MAX).map(|&k| k as usize).collect()).collect()
}

/// The definition, query by query, where lists have room for all and where they do not.
#[test]
fn chosen_keys_are_those_of_the_largest_cells() {
    for (columns, keys, length) in [(8, 4, 30), (8, 1, 13), (4, 9, 25), (16, 3, 7)] {
        let device = Device::new_cpu();
        let layer = layer(columns, keys, CAUSAL, &device);
        let grid = Tensor::normal(0.0, 1.5, &[2, 2, length, columns], DType::F32, &device).unwrap();
        let index = layer.choose(&grid, &Seen::Causal, None).unwrap();
        let weights = grid.softmax(-1).unwrap().to_f64_vec().unwrap();
        for (row, got) in lists(&index).into_iter().enumerate() {
            let (b, h, i) = (row / (2 * length), row / length % 2, row % length);
            let mut cells: Vec<(usize, usize)> = (0..2).flat_map(|h| (0..columns).map(move |m| (h, m))).collect();
            let weight = |&(h, m): &(usize, usize)| weights[((b * 2 + h) * length + i) * columns + m];
            cells.sort_by(|a, b| weight(b).total_cmp(&weight(a)).then(a.cmp(b)));
            let wanted = ((2 * keys * columns) as f64 / (i + 1) as f64).round().max(1.0) as usize;
            let kept = &cells[..wanted.min(cells.len())];
            let of_key = |key: &usize| kept.contains(&(h, column(*key, i + 1, columns)));
            let want: Vec<usize> = (0..=i).filter(of_key).collect();
            let want = &want[want.len().saturating_sub((2 * keys).min(length))..];
            assert_eq!(got, want, "query {i} of head {h} of row {b}, {columns} columns, {keys} keys");
        }
    }
}

/// Which tokens of two samples are real: not always the first ones.
fn real(length: usize, device: &Device) -> (Vec<bool>, Tensor) {
    let real: Vec<bool> =
        (0..2 * length).map(|n| if n < length { n % 5 != 1 } else { n - length < length - 4 }).collect();
    let tensor = Tensor::from_vec(real.clone(), &[2, length], device).unwrap();
    (real, tensor)
}

/// In both directions the largest cells of all queries and heads of a sample are kept.
#[test]
fn both_directions_share_the_cells_of_a_sample() {
    for (columns, keys, length) in [(8, 4, 30), (8, 1, 13), (4, 30, 25)] {
        let device = Device::new_cpu();
        let layer = layer(columns, keys, Direction::Both, &device);
        let grid = Tensor::normal(0.0, 1.5, &[2, 2, length, columns], DType::F32, &device).unwrap();
        let (real, tensor) = real(length, &device);
        let seen = Seen::real(Some(&tensor), length, &device).unwrap();
        let got = lists(&layer.choose(&grid, &seen, Some(&tensor)).unwrap());
        let weights = grid.softmax(-1).unwrap().to_f64_vec().unwrap();
        for b in 0..2 {
            let tokens: Vec<usize> = (0..length).filter(|&t| real[b * length + t]).collect();
            let weight = |&(h, i, m): &(usize, usize, usize)| weights[((b * 2 + h) * length + i) * columns + m];
            let mut cells: Vec<(usize, usize, usize)> = Vec::new();
            (0..2).for_each(|h| tokens.iter().for_each(|&i| cells.extend((0..columns).map(|m| (h, i, m)))));
            cells.sort_by(|a, b| weight(b).total_cmp(&weight(a)).then(a.cmp(b)));
            let kept = &cells[..(2 * keys * columns).min(cells.len())];
            for (h, i) in (0..2).flat_map(|h| (0..length).map(move |i| (h, i))) {
                let of_number = |n: usize| kept.contains(&(h, i, column(n, tokens.len(), columns)));
                let want: Vec<usize> = (0..tokens.len()).filter(|&n| of_number(n)).map(|n| tokens[n]).collect();
                let want = &want[want.len().saturating_sub((4 * keys).min(length))..];
                assert_eq!(got[(b * 2 + h) * length + i], want, "query {i} of head {h} of sample {b}");
            }
        }
    }
}

/// With room for every key, what is seen is full attention.
#[test]
fn all_keys_are_full_attention() {
    let device = Device::new_cpu();
    let (_, real) = real(20, &device);
    for (direction, real, mask) in [
        (CAUSAL, None, Mask::causal(0)),
        (Direction::Both, None, Mask::all()),
        (Direction::Both, Some(&real), Mask::dense(&real.unsqueeze(1).unwrap().unsqueeze(1).unwrap())),
    ] {
        let layer = layer(8, 20, direction, &device);
        let [query, key, value] =
            [(); 3].map(|()| Tensor::normal(0.0, 1.0, &[2, 2, 20, 8], DType::F32, &device).unwrap());
        let [grid, _] = layer.estimator.forward([&query, &key, &value], real).unwrap();
        let index = layer.choose(&grid, &layer.seen(&query, real).unwrap(), real).unwrap();
        let seen = query.sparse_attention(&key, &value, &index, &AttentionOptions::default()).unwrap();
        let full = query.attention(&key, &value, &AttentionOptions { mask, ..AttentionOptions::default() }).unwrap();
        // Queries that are padding see nothing.
        let (seen, full) = (of_real(seen, real).unwrap(), of_real(full, real).unwrap());
        let apart = seen.sub(&full).unwrap().abs().unwrap().max(&[], false).unwrap().item().unwrap();
        assert!(apart < 1e-5, "{direction:?}: {apart}");
    }
}

/// A later token changes nothing before it.
#[test]
fn is_causal() {
    let device = Device::new_cpu();
    let layer = layer(8, 3, CAUSAL, &device);
    let x = Tensor::normal(0.0, 1.0, &[1, 24, 16], DType::F32, &device).unwrap();
    let pass = Pass::default();
    let before = layer.mix(&x, &pass).unwrap();
    let tail = Tensor::normal(0.0, 1.0, &[1, 4, 16], DType::F32, &device).unwrap();
    let changed = Tensor::concat(&[&x.narrow(1, 0, 20).unwrap(), &tail], 1).unwrap();
    let after = layer.mix(&changed, &pass).unwrap();
    let cut = |x: &Tensor| x.narrow(1, 0, 20).unwrap().to_f64_vec().unwrap();
    assert!(cut(&before).iter().zip(cut(&after)).all(|(a, b)| (a - b).abs() < 1e-5));
    assert!(layer.mix(&Tensor::zeros(&[1, 65, 16], DType::F32, &device).unwrap(), &pass).is_err());
}

/// Few tokens, and samples of padding alone.
#[test]
fn the_shortest_sequences() {
    let device = Device::new_cpu();
    let layer = layer(8, 3, Direction::Both, &device);
    for length in [1, 2, 3] {
        let x = Tensor::normal(0.0, 1.0, &[2, length, 16], DType::F32, &device).unwrap();
        let real = Tensor::from_vec((0..2 * length).map(|n| n < length).collect(), &[2, length], &device).unwrap();
        let losses = Losses::default();
        let mut pass = Pass::default();
        (pass.real, pass.losses) = (Some(real), Some(losses.clone()));
        let y = layer.mix(&x, &pass).unwrap();
        assert!(y.to_f64_vec().unwrap().iter().all(|y| y.is_finite()));
        assert!(losses.sum().unwrap().item().unwrap().is_finite());
    }
    if let Ok(none) = layer.mix(&Tensor::zeros(&[2, 0, 16], DType::F32, &device).unwrap(), &Pass::default()) {
        assert_eq!(none.shape(), [2, 0, 16]);
    }
}

/// What padding holds changes neither results nor losses, and all that is trained gets a gradient.
#[test]
fn padding_counts_for_nothing() {
    let device = Device::new_cpu();
    let layer = layer(8, 3, Direction::Both, &device);
    let (_, real) = real(21, &device);
    let draw = || Tensor::normal(0.0, 1.0, &[2, 21, 16], DType::F32, &device).unwrap();
    let x = draw();
    let other = Tensor::where_cond(&real.unsqueeze(2).unwrap(), &x, &draw().mul_scalar(3.0).unwrap()).unwrap();
    let run = |x: &Tensor| {
        let mut pass = Pass::new(&Mask::dense(&real.unsqueeze(1).unwrap().unsqueeze(1).unwrap()), 0, [].into_iter());
        pass.real = Some(real.clone());
        let losses = Losses::default();
        pass.losses = Some(losses.clone());
        let out = of_real(layer.mix(x, &pass).unwrap().unsqueeze(1).unwrap(), Some(&real)).unwrap();
        (out, losses.sum().unwrap())
    };
    let ((a, loss_a), (b, loss_b)) = (run(&x), run(&other));
    assert!(a.to_f64_vec().unwrap().iter().zip(b.to_f64_vec().unwrap()).all(|(a, b)| (a - b).abs() < 1e-5));
    assert!((loss_a.item().unwrap() - loss_b.item().unwrap()).abs() < 1e-5);
    let gradients = loss_a.add(&a.square().unwrap().sum_all().unwrap()).unwrap().backward().unwrap();
    for (name, param) in layer.named_parameters().into_iter().filter(|(_, param)| param.is_trainable()) {
        let size = param.gradient(&gradients).unwrap().abs().unwrap().sum_all().unwrap().item().unwrap();
        assert!(size > 0.0 && size.is_finite(), "{name}: {size}");
    }
}
