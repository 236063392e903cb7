/// Reads fields from bytes that may be anything.
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Cursor<'a> {
        Cursor { bytes }
    }

    pub(crate) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.bytes.split_at_checked(count)?;
        self.bytes = rest;
        Some(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.bytes.split_first_chunk::<N>()?;
        self.bytes = rest;
        Some(*taken)
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

/// Writes fields one behind the other into a place that is known to be long enough.
pub(crate) struct Fields<'a> {
    out: &'a mut [u8],
    used: usize,
}

impl<'a> Fields<'a> {
    pub(crate) fn new(out: &'a mut [u8]) -> Fields<'a> {
        Fields { out, used: 0 }
    }

    pub(crate) fn put(&mut self, bytes: &[u8]) {
        let end = self.used.saturating_add(bytes.len());
        let place = self.out.get_mut(self.used..end).expect("fields fit their place");
        place.copy_from_slice(bytes);
        self.used = end;
    }

    pub(crate) fn used(&self) -> usize {
        self.used
    }
}
