//! Explains step by step whether a caller may see an event.

use super::parts::{Cause, Receiver, Step, StepResult};
use crate::auth::{ClaimMatch, Visibility};
use crate::event::Event;

/// The type of events about connections.
const CONNECTIONS: &str = "connections";

/// Maximum number of claims shown; a principal may have thousands.
const SHOWN: usize = 20;

/// Evaluates the rights, and returns what is missing.
pub(super) fn explain(event: &Event, receiver: Receiver<'_>) -> (Step, Vec<Cause>) {
    let asked = format!("{} may see the event", receiver.principal);
    if event.kind() == CONNECTIONS && event.account() == receiver.account {
        let own = Step::new(StepResult::Held, "it is about one of its own connections");
        return (Step::new(StepResult::Held, asked).with(vec![own]), Vec::new());
    }
    let visibility = receiver.access.explain(event.kind(), event.action(), event.key(), event.owner());
    let causes = causes(event, &visibility);
    let sees = causes.is_empty();
    let mut steps = vec![claims(&visibility)];
    for (claim, holds) in &visibility.narrowing {
        steps.push(Step::new(StepResult::of(*holds), format!("the token is restricted to {claim}")));
    }
    if let Some(shown) = visibility.tenant {
        let found = event
            .owner()
            .map_or_else(|| event.key().to_owned(), |machine| format!("{}, of machine {machine}", event.key()));
        let asked = format!("the tenant lists it among its {}", event.kind());
        steps.push(Step::new(StepResult::of(shown), asked).found(found));
    }
    (Step::new(StepResult::of(sees), asked).with(steps), causes)
}

fn causes(event: &Event, visibility: &Visibility) -> Vec<Cause> {
    let mut causes = Vec::new();
    if !visibility.by_claims {
        causes.push(Cause::Claim { claim: format!("{}/get/{}", event.kind(), event.key()) });
    }
    for (claim, _) in visibility.narrowing.iter().filter(|(_, holds)| !holds) {
        causes.push(Cause::Narrowing { claim: claim.clone() });
    }
    if visibility.tenant == Some(false) {
        let (model, key) = match event.owner() {
            Some(machine) => ("machines", machine),
            None => (event.kind(), event.key()),
        };
        causes.push(Cause::Tenant { model: model.to_owned(), key: key.to_owned() });
    }
    causes
}

fn claims(visibility: &Visibility) -> Step {
    let asked = match visibility.claims.len() {
        1 => "the claim allows it".to_owned(),
        all => format!("one of the {all} claims allows it"),
    };
    // Those that show it first, then those that come nearest.
    let mut claims: Vec<&ClaimMatch> = visibility.claims.iter().collect();
    claims.sort_by_key(|claim| std::cmp::Reverse(claim.parts().iter().filter(|holds| **holds).count()));
    let steps = claims.into_iter().take(SHOWN).map(|claim| {
        let names = ["scope", "action", "specific"].into_iter().zip(claim.parts());
        let missing: Vec<&str> = names.filter(|(_, holds)| !holds).map(|(name, _)| name).collect();
        let step = Step::new(StepResult::of(missing.is_empty()), claim.text.clone());
        let verb = if missing.len() == 1 { "does" } else { "do" };
        if missing.is_empty() { step } else { step.found(format!("{} {verb} not match", missing.join(" and "))) }
    });
    Step::new(StepResult::of(visibility.by_claims), asked).with(steps.collect())
}

#[cfg(test)]
mod tests {
    use crate::auth::Principal;
    use crate::event::{ENDPOINT, ISSUER, store};

    #[test]
    fn events_and_principals_tell_the_stores_apart_in_the_same_way() {
        for (principal, prefix) in [
            (Principal::user("a"), ""),
            (Principal::endpoint_user("a"), ENDPOINT),
            (Principal::issuer_user("a"), ISSUER),
        ] {
            let principal = principal.unwrap();
            assert_eq!(principal.account(), format!("{prefix}user:a"));
            assert_eq!(store(principal.account()), prefix);
        }
    }
}
