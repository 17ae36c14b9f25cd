//! Views over the parameters of any model: what a layer sees in place of a parameter, such as the parameter under a mask.

use wgrad::nn::{Module, Visitor};
use wgrad::{Tensor, no_grad};

use super::Matrix;
use crate::{Error, Result};

/// What a matrix is seen as. Its own parameters are those that it shows as a module; one without any is fixed.
pub trait View: Module + Send + Sync {
    /// What is seen in place of `weight [outputs, inputs]`, of the same shape. Gradients flow to whatever it is computed from.
    ///
    /// # Errors
    /// If the view is of another shape, or memory is exhausted.
    fn matrix(&self, weight: &Tensor) -> Result<Tensor>;

    /// A term that training adds to the loss, of `weight` and what is shown in its place.
    ///
    /// # Errors
    /// As [`View::matrix`].
    fn penalty(&self, _weight: &Tensor, _shown: &Tensor) -> Result<Option<Tensor>> {
        Ok(None)
    }
}

struct Entry {
    /// Of the parameter; those of the view are named after it.
    name: String,
    matrix: Matrix,
    view: Box<dyn View>,
}

/// Views over parameters of one model. As a module, they are the parameters of the views: those of `view` over `layer.0.query.weight` are
/// named `layer.0.query.weight.gates` and so on. What is shown is taken back when this is dropped.
#[derive(Default)]
pub struct Views(Vec<Entry>);

impl Views {
    /// Views over those of the matrices for which `view` makes one, mostly out of [`Matrix::of_blocks`]. Nothing is shown yet.
    ///
    /// # Errors
    /// If a view cannot be made, or two are over one parameter.
    pub fn new(
        matrices: Vec<(String, Matrix)>,
        mut view: impl FnMut(&str, &Matrix) -> Result<Option<Box<dyn View>>>,
    ) -> Result<Self> {
        let mut views = Views::default();
        for (name, matrix) in matrices {
            if let Some(view) = view(&name, &matrix)? {
                views.add(name, matrix, view)?;
            }
        }
        Ok(views)
    }

    /// One more.
    ///
    /// # Errors
    /// If there is one over the parameter already.
    pub fn add(&mut self, name: String, matrix: Matrix, view: Box<dyn View>) -> Result<()> {
        if let Some(old) = self.0.iter().find(|old| old.matrix.param.is(&matrix.param)) {
            return Err(Error::argument("views", format!("`{name}` has a view already, as `{}`", old.name)));
        }
        self.0.push(Entry { name, matrix, view });
        Ok(())
    }

    /// Names and matrices under a view.
    pub fn matrices(&self) -> impl Iterator<Item = (&str, &Matrix)> {
        self.0.iter().map(|entry| (entry.name.as_str(), &entry.matrix))
    }

    /// Shows the model each parameter through its view: to be called before each pass whose view may have changed, that is once a
    /// step.
    ///
    /// # Errors
    /// If a view does not fit its parameter, or memory is exhausted.
    pub fn show(&self) -> Result<()> {
        for Entry { name, matrix, view } in &self.0 {
            let weight = matrix.rows()?;
            let shown = view.matrix(&weight)?;
            if shown.shape() != weight.shape() {
                let message = format!("`{name}` {:?} through a view of {:?}", weight.shape(), shown.shape());
                return Err(Error::argument("views", message));
            }
            matrix.param.show(Some(matrix.stored(&shown)?))?;
        }
        Ok(())
    }

    /// What the views make of matrices of ones: of masks, the masks themselves.
    ///
    /// # Errors
    /// As [`Views::show`].
    pub fn of_ones(&self) -> Result<Vec<Tensor>> {
        self.0.iter().map(|entry| entry.view.matrix(&entry.matrix.rows()?.ones_like()?)).collect()
    }

    /// The sum of what the views add to the loss, of what they show; None if they add nothing.
    ///
    /// # Errors
    /// As [`Views::show`].
    pub fn penalty(&self) -> Result<Option<Tensor>> {
        let mut sum: Option<Tensor> = None;
        for Entry { matrix, view, .. } in &self.0 {
            let Some(one) = view.penalty(&matrix.rows()?, &matrix.shown()?)? else { continue };
            sum = Some(match sum {
                Some(sum) => sum.add(&one)?,
                None => one,
            });
        }
        Ok(sum)
    }

    /// Shows the parameters themselves again.
    pub fn hide(&self) {
        for Entry { matrix, .. } in &self.0 {
            // To show nothing cannot fail: there is nothing that would not fit.
            let _ = matrix.param.show(None);
        }
    }

    /// Writes into each parameter what its view makes of it, so that the model is the same without the views. Biases and all else stay.
    ///
    /// # Errors
    /// As [`Views::show`]. After one, no parameter was changed.
    pub fn merge(self) -> Result<()> {
        no_grad(|| {
            let merged = |entry: &Entry| {
                let rows = entry.view.matrix(&entry.matrix.rows()?.detach())?.detach();
                Ok(entry.matrix.stored(&rows)?.contiguous()?)
            };
            let merged: Vec<Tensor> = self.0.iter().map(merged).collect::<Result<_>>()?;
            for (entry, value) in self.0.iter().zip(merged) {
                entry.matrix.param.set(&value)?;
            }
            Ok(())
        })
    }
}

impl Drop for Views {
    fn drop(&mut self) {
        self.hide();
    }
}

impl Module for Views {
    fn visit(&self, v: &mut Visitor<'_>) {
        for Entry { name, view, .. } in &self.0 {
            v.module(name, &**view);
        }
    }
}

#[cfg(test)]
mod tests {
    use wgrad::nn::{Build, Init, Param};
    use wgrad::{DType, Device};

    use super::*;
    use crate::weights::{Form, Linear};

    /// Each row of the matrix times a learned factor.
    struct Scaled(Param);

    impl View for Scaled {
        fn matrix(&self, weight: &Tensor) -> Result<Tensor> {
            Ok(weight.mul(&self.0.tensor().unsqueeze(1)?)?)
        }

        fn penalty(&self, _: &Tensor, shown: &Tensor) -> Result<Option<Tensor>> {
            Ok(Some(shown.sum_all()?))
        }
    }

    impl Module for Scaled {
        fn visit(&self, v: &mut Visitor<'_>) {
            v.param("factor", &self.0);
        }
    }

    struct Blocks(Vec<Linear>, Linear);

    impl Module for Blocks {
        fn visit(&self, v: &mut Visitor<'_>) {
            for (i, layer) in self.0.iter().enumerate() {
                layer.visit_as(&format!("layer.{i}.query"), v);
            }
            self.1.visit_as("head", v);
        }
    }

    fn scaled(matrix: &Matrix) -> Result<Option<Box<dyn View>>> {
        let factor = Init::Constant(2.0).tensor(&[matrix.outputs()], DType::F32, matrix.param.device())?;
        Ok(Some(Box::new(Scaled(Param::new(&factor)?))))
    }

    #[test]
    fn every_form_is_seen_scaled_and_merged() {
        let device = Device::new_cpu();
        let build = Build::new(&device);
        let forms = [Form::Rows, Form::Columns, Form::ColumnsByHead(2), Form::RowsByHead(3), Form::LowRank(2)];
        let layers = forms.map(|form| Linear::new(6, 4, true, form, &build).unwrap());
        let head = Linear::new(4, 3, false, Form::Rows, &build).unwrap();
        let model = Blocks(layers.into(), head);
        let x = Tensor::normal(0.0, 1.0, &[5, 6], DType::F32, &device).unwrap();
        let outputs = || -> Vec<Vec<f64>> {
            model.0.iter().map(|layer| layer.forward(&x).unwrap().to_f64_vec().unwrap()).collect()
        };
        let before = outputs();
        let views = Views::new(Matrix::of_blocks(&model), |_, matrix| scaled(matrix)).unwrap();
        let names: Vec<String> = views.named_parameters().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names[0], "layer.0.query.weight.factor");
        // A product of two factors is two matrices; the head is in no block.
        assert_eq!((names.len(), names[2].as_str()), (6, "layer.2.query.factor"));
        assert_eq!(outputs(), before);
        views.show().unwrap();
        let shown = outputs();
        for (i, (before, shown)) in before.iter().zip(&shown).enumerate() {
            let factor = if i == 4 { 4.0 } else { 2.0 };
            assert!(before.iter().zip(shown).all(|(b, s)| (factor * b - s).abs() < 1e-5), "form {i}");
        }
        let gradients = views.penalty().unwrap().unwrap().backward().unwrap();
        assert!(views.named_parameters().iter().all(|(_, factor)| factor.gradient(&gradients).is_some()));
        views.merge().unwrap();
        // Up to rounding: a product of a transposed matrix may be summed in another order.
        let close =
            |(merged, shown): (&Vec<f64>, &Vec<f64>)| merged.iter().zip(shown).all(|(m, s)| (m - s).abs() < 1e-5);
        assert!(outputs().iter().zip(&shown).all(close));
    }

    #[test]
    fn dropped_views_show_nothing_and_two_over_one_are_refused() {
        let build = Build::new(&Device::new_cpu());
        let layer = Linear::new(2, 2, false, Form::Rows, &build).unwrap();
        let model = Blocks(vec![], layer);
        let all = Matrix::all(&model);
        assert!(Matrix::of_blocks(&model).is_empty());
        let before = all[0].1.shown().unwrap().to_f64_vec().unwrap();
        let views = Views::new(all.clone(), |_, matrix| scaled(matrix)).unwrap();
        views.show().unwrap();
        assert_ne!(all[0].1.shown().unwrap().to_f64_vec().unwrap(), before);
        drop(views);
        assert_eq!(all[0].1.shown().unwrap().to_f64_vec().unwrap(), before);
        let twice = [all.clone(), all].concat();
        let error = Views::new(twice, |_, matrix| scaled(matrix)).err().unwrap().to_string();
        assert!(error.contains("head.weight"), "{error}");
    }
}
