/// Things by number; a number is given out again when what had it is gone.
pub(crate) struct Slots<T> {
    items: Vec<T>,
    free: Vec<u32>,
}

impl<T> Default for Slots<T> {
    fn default() -> Slots<T> {
        Slots { items: Vec::new(), free: Vec::new() }
    }
}

impl<T: Copy> Slots<T> {
    pub(crate) fn add(&mut self, item: T) -> u32 {
        match self.free.pop() {
            Some(number) => {
                self.items[number as usize] = item;
                number
            }
            None => {
                self.items.push(item);
                u32::try_from(self.items.len() - 1).expect("SHARDS_MAX and BLOBS_MAX fit 32 bits")
            }
        }
    }

    pub(crate) fn remove(&mut self, number: u32) -> T {
        let item = self.items[number as usize];
        self.free.push(number);
        if self.free.len() == self.items.len() {
            *self = Slots::default();
        }
        item
    }

    pub(crate) fn get(&self, number: u32) -> &T {
        &self.items[number as usize]
    }

    pub(crate) fn get_mut(&mut self, number: u32) -> &mut T {
        &mut self.items[number as usize]
    }
}
