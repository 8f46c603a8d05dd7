use super::*;
use crate::machine::region::COUNT_MAX;

#[test]
fn every_number_is_taken_once() {
    for threads in [1, 2, 3, 8] {
        for count in [0, 1, 2, 1_000] {
            let taken: Vec<AtomicUsize> = (0..count).map(|_| AtomicUsize::new(0)).collect();
            for_each(count, threads, |i| {
                taken[i].fetch_add(1, Ordering::Relaxed);
            });
            assert!(taken.iter().all(|n| n.load(Ordering::Relaxed) == 1));
        }
    }
}

#[test]
fn the_caller_takes_the_lowest_numbers_and_helpers_the_highest() {
    let caller = thread::current().id();
    for round in 0..200 {
        rouse(3);
        let by_caller: Vec<AtomicBool> = (0..50).map(|_| AtomicBool::default()).collect();
        for_each(50, 3, |i| {
            by_caller[i].store(thread::current().id() == caller, Ordering::Relaxed);
            thread::sleep(Duration::from_micros(round % 3));
        });
        assert!(by_caller.iter().is_sorted_by_key(|taken| !taken.load(Ordering::Relaxed)));
    }
}

#[test]
#[should_panic(expected = "too many to count")]
fn more_numbers_than_can_be_counted_are_refused() {
    for_each(COUNT_MAX + 1, 1, |_| {});
}

/// Several threads open regions at once, at varying distances in time, with helpers awake and
/// parked.
#[test]
fn regions_do_not_mix() {
    thread::scope(|scope| {
        for caller in 0..3 {
            scope.spawn(move || {
                for round in 0..2_000 {
                    let sum = AtomicUsize::new(0);
                    for_each(round % 17, 3, |i| {
                        sum.fetch_add(i + caller, Ordering::Relaxed);
                    });
                    let n = round % 17;
                    let expected = (0..n).sum::<usize>() + n * caller;
                    assert_eq!(sum.into_inner(), expected);
                    if round % 500 == 0 {
                        thread::sleep(2 * LINGER);
                    }
                }
            });
        }
    });
}

/// A helper that stands still in the region, as one that has lost its core: the caller sleeps
/// until it is done, and the next regions have a helper again.
#[test]
fn a_caller_waits_for_a_helper_that_does_not_run() {
    let caller = thread::current().id();
    for stands_still in [20 * NAP, Duration::ZERO] {
        let helped = AtomicBool::new(false);
        while !helped.load(Ordering::SeqCst) {
            for_each(100, 2, |_| {
                if thread::current().id() == caller {
                    thread::sleep(Duration::from_micros(100));
                } else if !helped.load(Ordering::SeqCst) {
                    thread::sleep(stands_still);
                    helped.store(true, Ordering::SeqCst);
                }
            });
        }
    }
}

#[test]
fn a_panic_reaches_the_caller_and_the_pool_goes_on() {
    for round in 0..50 {
        let work = |i: usize| assert!(i != round, "number {i}");
        let caught = catch_unwind(AssertUnwindSafe(|| for_each(50, 2, work)));
        assert!(caught.is_err());
    }
    every_number_is_taken_once();
}
