//! What a Redis has spent.

use crate::redis_store::Redis;

impl Redis {
    /// Script calls so far, and microseconds of its main thread's processor time.
    pub(crate) fn spent(&self) -> (f64, f64) {
        let mut connection = self.connection();
        let mut info = |section: &str| -> String {
            redis::cmd("INFO").arg(section).query(&mut connection).expect("INFO")
        };
        let (stats, cpu) = (info("commandstats"), info("cpu"));
        let calls = stats.lines().find_map(|line| line.strip_prefix("cmdstat_evalsha:calls="));
        let calls = calls.and_then(|rest| rest.split(',').next()?.parse().ok()).unwrap_or(0.0);
        let used = |name: &str| -> f64 {
            let line = cpu.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|value| value.trim().parse().ok()).unwrap_or(0.0)
        };
        let seconds = used("used_cpu_sys_main_thread:") + used("used_cpu_user_main_thread:");
        (calls, seconds * 1e6)
    }
}
