//! [`Gauged`]: what goes on now, for the metrics.

/// What is counted while it goes on.
#[derive(Debug, Clone, Copy)]
pub(super) enum Gauge {
    Runs,
    Waiting,
    Background,
}

/// One more of them, until it is dropped. Nothing at all without the feature `metrics`.
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
