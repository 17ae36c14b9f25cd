//! Blocks on each other.

use wgrad::nn::{Build, Module, Visitor};
use wgrad::{Mask, Tensor};

use crate::Result;
use crate::attention::Pass;
use crate::block::{Block, BlockCache, BlockConfig, Encoded};
use crate::norm::{Norm, NormConfig};

/// What a stack is made of.
#[derive(Debug, Clone, PartialEq)]
pub struct StackConfig {
    /// Name of the blocks, which a number follows.
    pub name: &'static str,
    /// The blocks from the first to the last.
    pub blocks: Vec<BlockConfig>,
    /// Name and kind of the norm after the last.
    pub norm: Option<(&'static str, NormConfig)>,
}

/// Blocks, and the norm after the last.
pub struct Stack {
    name: &'static str,
    blocks: Vec<Block>,
    norm: Option<(&'static str, Norm)>,
}

impl Stack {
    /// A new stack of blocks on vectors of `hidden`.
    ///
    /// # Errors
    /// If the sizes do not fit each other, or memory is exhausted.
    pub fn new(config: &StackConfig, hidden: usize, build: &Build) -> Result<Self> {
        let norm = |(name, norm)| Ok::<_, crate::Error>((name, Norm::new(norm, hidden, build)?));
        let blocks: Vec<Block> = config.blocks.iter().map(|block| Block::new(block, build)).collect::<Result<_>>()?;
        blocks.iter().skip(1).zip(&blocks).for_each(|(_, before)| before.replay().set_inner());
        Ok(Stack { name: config.name, blocks, norm: config.norm.map(norm).transpose()? })
    }

    /// The blocks.
    pub fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    /// A pass through these blocks under a mask.
    pub fn pass(&self, mask: &Mask, offset: usize) -> Pass {
        Pass::new(mask, offset, self.blocks.iter().map(|block| block.attention().window()))
    }

    /// The last states of `x [batch, length, hidden]`, normalised if the stack has a norm. What goes into the first block and what comes
    /// out of each, the last one as it is returned, is put into `states` if they are wanted.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn forward(
        &self,
        mut x: Tensor,
        pass: &Pass,
        encoded: Option<&Encoded>,
        mut cache: Option<&mut [BlockCache]>,
        mut states: Option<&mut Vec<Tensor>>,
    ) -> Result<Tensor> {
        for (number, block) in self.blocks.iter().enumerate() {
            let cache = cache.as_deref_mut().and_then(|cache| cache.get_mut(number));
            let next = block.forward(&x, None, pass, encoded, cache)?;
            if let Some(states) = states.as_deref_mut() {
                states.push(x);
            }
            x = next;
        }
        if let Some((_, norm)) = &self.norm {
            x = norm.forward_real(&x, pass.real_of(&x)?.as_ref())?;
        }
        if let Some(states) = states {
            states.push(x.clone());
        }
        Ok(x)
    }
}

impl Module for Stack {
    fn visit(&self, v: &mut Visitor<'_>) {
        v.modules(self.name, &self.blocks);
        if let Some((name, norm)) = &self.norm {
            v.module(name, norm);
        }
    }
}
