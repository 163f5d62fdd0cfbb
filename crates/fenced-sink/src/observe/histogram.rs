//! A histogram with fixed bounds. Pure.

/// The number of values by size, and their sum.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    bounds: &'static [f64],
    /// One count for each bound, and one for the values above the last bound.
    counts: Vec<u64>,
    sum: f64,
}

impl Histogram {
    /// An empty histogram. The bounds must increase.
    #[must_use]
    pub fn new(bounds: &'static [f64]) -> Self {
        Self { bounds, counts: vec![0; bounds.len().saturating_add(1)], sum: 0.0 }
    }

    /// Adds a value.
    pub fn observe(&mut self, value: f64) {
        let index = self.bounds.partition_point(|bound| *bound < value);
        if let Some(count) = self.counts.get_mut(index) {
            *count = count.saturating_add(1);
        }
        self.sum += value;
    }

    /// Each upper bound with the number of values that are above the bound before it, and not above this one. The last
    /// bound is infinite.
    #[must_use]
    pub fn buckets(&self) -> Vec<(f64, u64)> {
        self.bounds.iter().copied().chain([f64::INFINITY]).zip(self.counts.iter().copied()).collect()
    }

    /// The sum of all values.
    #[must_use]
    pub fn sum(&self) -> f64 {
        self.sum
    }

    /// The number of values.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(values: &[f64], expected: &[u64]) {
        let mut histogram = Histogram::new(&[1.0, 2.5, 10.0]);
        for value in values {
            histogram.observe(*value);
        }
        let (bounds, counts): (Vec<_>, Vec<_>) = histogram.buckets().into_iter().unzip();
        assert_eq!((bounds.as_slice(), counts.as_slice()), ([1.0, 2.5, 10.0, f64::INFINITY].as_slice(), expected));
        assert_eq!(histogram.count(), u64::try_from(values.len()).unwrap());
        let sum: f64 = values.iter().sum();
        assert!((histogram.sum() - sum).abs() < 1e-9, "{} {sum}", histogram.sum());
    }

    #[test]
    fn a_value_is_counted_at_the_first_bound_that_is_not_below_it() {
        check(&[], &[0, 0, 0, 0]);
        check(&[0.0, 1.0, 1.1, 2.5, 9.0, 10.0, 10.1, 1e9], &[2, 2, 2, 2]);
    }
}
