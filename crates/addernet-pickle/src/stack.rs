//! The stack and the memo of one pickle.

use std::collections::HashMap;

use crate::error::Problem;
use crate::heap::Id;

/// Most marks that may be open at once: Python's writer opens one per level of nesting.
const MAX_MARKS: usize = 10_000;

#[derive(Default)]
pub(crate) struct Stack {
    values: Vec<Id>,
    /// Heights of the stack at the open marks.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
}

impl Stack {
    /// Height below which nothing may be taken: the innermost mark.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    pub(crate) fn push(&mut self, value: Id) {
        self.values.push(value);
    }

    pub(crate) fn pop(&mut self) -> Result<Id, Problem> {
        let value = self.top()?;
        self.values.pop();
        Ok(value)
    }

    /// The uppermost value above the innermost mark.
    pub(crate) fn top(&self) -> Result<Id, Problem> {
        let above = self.values.get(self.floor()..).unwrap_or_default();
        above.last().copied().ok_or_else(Problem::underflow)
    }

    /// The last `count` values, in the order in which they were pushed.
    pub(crate) fn pop_n(&mut self, count: usize) -> Result<Vec<Id>, Problem> {
        let rest = self.values.len().checked_sub(count);
        let rest = rest.filter(|rest| *rest >= self.floor());
        Ok(self.values.split_off(rest.ok_or_else(Problem::underflow)?))
    }

    pub(crate) fn mark(&mut self) -> Result<(), Problem> {
        if self.marks.len() >= MAX_MARKS {
            return Err(Problem::TooDeep);
        }
        self.marks.push(self.values.len());
        Ok(())
    }

    /// Everything above the innermost mark, which is closed.
    pub(crate) fn pop_to_mark(&mut self) -> Result<Vec<Id>, Problem> {
        let mark = self.marks.pop().ok_or_else(Problem::underflow)?;
        Ok(self.values.split_off(mark))
    }

    /// Removes a value, or a mark that is on top.
    pub(crate) fn drop_top(&mut self) -> Result<(), Problem> {
        if self.marks.last() == Some(&self.values.len()) {
            self.marks.pop();
            return Ok(());
        }
        self.pop().map(drop)
    }

    pub(crate) fn memoize(&mut self, number: u32) -> Result<(), Problem> {
        let value = self.top()?;
        self.memo.insert(number, value);
        Ok(())
    }

    /// Stores the uppermost value under the next number.
    pub(crate) fn memoize_next(&mut self) -> Result<(), Problem> {
        // No more entries than values, whose numbers have 32 bits.
        self.memoize(self.memo.len() as u32)
    }

    pub(crate) fn fetch(&mut self, number: u32) -> Result<(), Problem> {
        let value = self.memo.get(&number).ok_or_else(|| {
            Problem::damaged(format!("refers to value {number}, which it has not stored"))
        })?;
        self.values.push(*value);
        Ok(())
    }
}
