//! What whoever runs a check sees of it beside its report: how its trainings go, and its pictures. A check does not know who runs it, so
//! this is kept for the thread; in tests nothing is shown.

use std::cell::RefCell;
use std::path::PathBuf;

use wgrad::Tensor;

use crate::plot::Figure;
use crate::progress::{Limit, Progress, Reading};
use crate::{Result, fsx};

thread_local! {
    static AROUND: RefCell<Around> = const { RefCell::new(Around { name: None, trainings: 0, pictures: None }) };
}

/// What is around the check that runs.
struct Around {
    /// The system, if its trainings are to be shown.
    name: Option<&'static str>,
    /// Trainings begun.
    trainings: usize,
    /// Where pictures go, under which name.
    pictures: Option<PathBuf>,
}

/// Runs the check of a system: `shown` with the progress of its trainings on standard error; its picture, if it draws one, goes to
/// `pictures`.
pub fn around<R>(name: &'static str, shown: bool, pictures: Option<PathBuf>, check: impl FnOnce() -> R) -> R {
    let pictures = pictures.map(|folder| folder.join(format!("{name}.svg")));
    let set = |around| AROUND.with(|kept| kept.replace(around));
    let before = set(Around { name: shown.then_some(name), trainings: 0, pictures });
    let result = check();
    set(before);
    result
}

/// Saves the picture of a check where one is wanted; `draw` is not called elsewhere.
///
/// # Errors
/// If it cannot be drawn or written.
pub fn picture(draw: impl FnOnce() -> Figure) -> Result<()> {
    let Some(path) = AROUND.with(|kept| kept.borrow().pictures.clone()) else { return Ok(()) };
    if let Some(folder) = path.parent() {
        fsx::create_folder(folder)?;
    }
    draw().save(&path)
}

/// One training of a check. What it shows vanishes with it.
pub struct Training(Option<Progress>);

impl Training {
    /// A training of so many steps.
    pub fn new(steps: u64) -> Self {
        Training(AROUND.with(|kept| {
            let mut kept = kept.borrow_mut();
            kept.trainings += 1;
            let label = kept.name.map(|name| format!("{name}, training {}: ", kept.trainings));
            label.map(|label| Progress::labelled(label, Limit { steps: Some(steps), time: None }))
        }))
    }

    /// After `step` steps the loss was this. It is read only when it is time to show it.
    ///
    /// # Errors
    /// If the device fails.
    pub fn step(&mut self, step: u64, loss: &Tensor) -> Result<()> {
        if let Some(progress) = self.0.as_mut().filter(|progress| progress.due()) {
            progress.show(Reading { step, loss: loss.detach().item()?, accuracy: None, tokens_per_s: 0.0 });
        }
        Ok(())
    }
}

impl Drop for Training {
    fn drop(&mut self) {
        if let Some(progress) = &self.0 {
            progress.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plot::{Chart, Series};

    #[test]
    fn pictures_are_drawn_where_they_are_wanted() {
        let folder = tempfile::tempdir().unwrap();
        let figure = || Figure {
            title: "t".into(),
            charts: vec![Chart::new("c", "x", "y").with(Series::new("s", vec![(0.0, 1.0), (1.0, 2.0)]))],
        };
        picture(|| panic!("nobody wants it")).unwrap();
        around("some-system", false, Some(folder.path().join("new")), || picture(figure)).unwrap();
        assert!(folder.path().join("new/some-system.svg").exists());
        picture(|| panic!("it is over")).unwrap();
        let loss = Tensor::scalar(1.0, wgrad::DType::F32, &wgrad::Device::cpu()).unwrap();
        assert!(Training::new(3).0.is_none());
        around("some-system", true, None, || {
            let mut training = Training::new(3);
            training.step(1, &loss).unwrap();
            assert!(training.0.is_some());
        });
    }
}
