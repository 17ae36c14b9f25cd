//! Tests of the masking policies.

use wgrad::rng::Philox;

use super::mlm::{Choice, Corrupted, Fate, IGNORE, Mlm, Row};
use super::schedule::Rate;

const LENGTH: usize = 100;
const ALL: [Choice; 4] = [Choice::Bernoulli, Choice::FixedCount, Choice::WholeWord, Choice::Span { longest: 3 }];

/// Corrupts a row of ids 100 to 199 whose first and last tokens are special and whose words have three pieces.
fn corrupt(policy: &Mlm, stream: u64) -> Corrupted {
    let ids: Vec<u32> = (100..100 + LENGTH as u32).collect();
    let special: Vec<bool> = (0..LENGTH).map(|at| at == 0 || at == LENGTH - 1).collect();
    let word_start: Vec<bool> = (0..LENGTH).map(|at| at % 3 == 1).collect();
    let row = Row { ids: &ids, special: &special, word_start: &word_start };
    policy.corrupt(row, 0, &mut Philox::new(5, stream)).unwrap()
}

fn policy(choice: Choice) -> Mlm {
    // Random ids lie apart from the row's own, so that each fate can be seen in the ids.
    Mlm { choice, random_ids: 1000..2000, ..Mlm::bert(4, 2000) }
}

#[test]
fn labels_are_the_chosen_and_specials_are_spared() {
    for choice in ALL {
        for stream in 0..50 {
            let row = corrupt(&policy(choice), stream);
            for at in 0..LENGTH {
                let (id, input) = (100 + at as u32, row.input_ids[at]);
                let expected = if row.fates[at] == Fate::Untouched { IGNORE } else { id as i32 };
                assert_eq!(row.labels[at], expected);
                match row.fates[at] {
                    Fate::Untouched | Fate::Kept => assert_eq!(input, id),
                    Fate::Masked => assert_eq!(input, 4),
                    Fate::Random => assert!((1000..2000).contains(&input)),
                }
            }
            assert_eq!((row.labels[0], row.labels[LENGTH - 1]), (IGNORE, IGNORE));
            assert_eq!(row, corrupt(&policy(choice), stream), "the same stream gives the same row");
        }
    }
}

#[test]
fn shares_are_80_10_10_at_the_wanted_rate() {
    let rows = 10_000;
    for choice in ALL {
        let mut counts = [0usize; 4];
        for stream in 0..rows {
            for fate in corrupt(&policy(choice), stream).fates {
                counts[fate as usize] += 1;
            }
        }
        let chosen = (counts[1] + counts[2] + counts[3]) as f64;
        let rate = chosen / (rows as usize * (LENGTH - 2)) as f64;
        // Whole spans overshoot the count a little.
        assert!(
            (rate - 0.15).abs() < if matches!(choice, Choice::Span { .. }) { 0.012 } else { 0.004 },
            "{choice:?} {rate}"
        );
        for (count, share) in counts[1..].iter().zip([0.8, 0.1, 0.1]) {
            let seen = *count as f64 / chosen;
            assert!((seen - share).abs() < 0.006, "{choice:?} {seen} {share}");
        }
    }
}

#[test]
fn fixed_count_is_the_same_in_every_row() {
    for stream in 0..100 {
        let chosen = |choice| corrupt(&policy(choice), stream).labels.iter().filter(|&&label| label != IGNORE).count();
        assert_eq!(chosen(Choice::FixedCount), 15);
        assert!((13..=15).contains(&chosen(Choice::WholeWord)));
        assert!((15..=17).contains(&chosen(Choice::Span { longest: 3 })));
    }
}

#[test]
fn words_are_chosen_whole() {
    for stream in 0..100 {
        let labels = corrupt(&policy(Choice::WholeWord), stream).labels;
        for word in labels[1..97].chunks(3) {
            let chosen = word.iter().filter(|&&label| label != IGNORE).count();
            assert!(chosen == 0 || chosen == 3, "{word:?}");
        }
    }
}

#[test]
fn spans_share_one_fate() {
    let long = policy(Choice::Span { longest: 12 });
    let single = policy(Choice::FixedCount);
    let runs = |policy: &Mlm| {
        let changes = |row: Corrupted| row.fates.windows(2).filter(|pair| pair[0] != pair[1]).count();
        (0..200).map(|stream| changes(corrupt(policy, stream))).sum::<usize>()
    };
    assert!(runs(&long) * 3 < runs(&single), "{} {}", runs(&long), runs(&single));
}

#[test]
fn rate_follows_the_step_and_bad_arguments_are_errors() {
    let row = |ids: &'static [u32]| Row { ids, special: &[false; 4], word_start: &[true; 4] };
    let ids = &[7, 8, 9, 10];
    let mut rng = Philox::new(0, 0);
    let falling = Mlm { rate: Rate::Linear { from: 1.0, to: 0.0, steps: 10 }, ..policy(Choice::FixedCount) };
    let mut chosen =
        |step| falling.corrupt(row(ids), step, &mut rng).unwrap().labels.iter().filter(|&&l| l != IGNORE).count();
    assert_eq!((chosen(0), chosen(5), chosen(10)), (4, 2, 0));
    let mut sentence = |policy: Mlm, ids| policy.corrupt(row(ids), 0, &mut rng).unwrap_err().to_string();
    assert!(sentence(policy(Choice::FixedCount), &[1, 2, 3]).contains("3 ids"));
    assert!(sentence(Mlm { rate: Rate::Constant(2.0), ..policy(Choice::Bernoulli) }, ids).contains("between 0 and 1"));
    assert!(sentence(Mlm { random_ids: 3..3, ..policy(Choice::Bernoulli) }, ids).contains("empty"));
    assert!(sentence(Mlm { mask_share: 0.95, ..policy(Choice::Bernoulli) }, ids).contains("at most 1"));
    assert!(sentence(policy(Choice::Span { longest: 0 }), ids).contains("at least one"));
}
