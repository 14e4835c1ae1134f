//! Which thresholds of a row have fired: by their percent, whatever list they stand in later.

/// Percents, each of which fires once. Bit `p` stands for `p` percent.
///
/// Earlier versions knew them by their place in the budget's list. Such places take the eight
/// highest bits until the list is at hand, which [`Fired::named`] reads them by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fired(u128);

impl Fired {
    /// Bit `i` for the threshold at place `i`, as earlier versions kept it.
    #[must_use]
    pub const fn of_places(places: u8) -> Self {
        Self((places as u128) << PLACES_FROM)
    }

    /// Whether this percent has fired.
    #[must_use]
    pub fn has(self, percent: u8) -> bool {
        bit(percent) & self.0 != 0
    }

    /// With this percent too.
    #[must_use]
    pub fn with(self, percent: u8) -> Self {
        Self(self.0 | bit(percent))
    }

    /// Whatever fired in one or the other.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The percents that have fired, ascending.
    pub fn percents(self) -> impl Iterator<Item = u8> {
        (1..=PERCENT_MAX).filter(move |percent| self.has(*percent))
    }

    /// The places of an earlier version that no list has named yet.
    #[must_use]
    pub const fn places(self) -> u8 {
        (self.0 >> PLACES_FROM) as u8
    }

    /// With the places of an earlier version read by a budget's list of percents.
    #[must_use]
    pub fn named(self, percents: &[u8]) -> Self {
        let places = self.places();
        let named = Self(self.0 & !(u128::from(places) << PLACES_FROM));
        let fired = percents.iter().take(8).enumerate().filter(|(at, _)| places >> at & 1 == 1);
        fired.fold(named, |named, (_, percent)| named.with(*percent))
    }
}

impl FromIterator<u8> for Fired {
    /// Of percents.
    fn from_iter<T: IntoIterator<Item = u8>>(percents: T) -> Self {
        percents.into_iter().fold(Self::default(), Self::with)
    }
}

/// Nothing stands for what is no percent.
fn bit(percent: u8) -> u128 {
    if (1..=PERCENT_MAX).contains(&percent) { 1 << percent } else { 0 }
}

const PERCENT_MAX: u8 = 100;

/// Where the places of an earlier version are.
const PLACES_FROM: u32 = 120;
