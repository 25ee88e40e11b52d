//! [`Gauged`]: what is in progress, for the metrics.

/// What is counted while it is in progress.
#[derive(Debug, Clone, Copy)]
pub(super) enum Gauge {
    Runs,
    Waiting,
    Background,
}

/// Counts one more until it is dropped. Does nothing without the feature `metrics`.
#[derive(Debug)]
pub(super) struct Gauged(#[cfg(feature = "metrics")] Gauge);

impl Gauged {
    #[cfg_attr(not(feature = "metrics"), expect(unused_variables, reason = "nobody counts"))]
    pub(super) fn new(gauge: Gauge) -> Self {
        #[cfg(feature = "metrics")]
        super::metrics::change(gauge, 1.0);
        Self(
            #[cfg(feature = "metrics")]
            gauge,
        )
    }
}

#[cfg(feature = "metrics")]
impl Drop for Gauged {
    fn drop(&mut self) {
        super::metrics::change(self.0, -1.0);
    }
}
