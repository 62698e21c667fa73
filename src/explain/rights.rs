//! Explains step by step whether a caller may see an event.

use super::parts::{Cause, Receiver, Step, Verdict};
use crate::auth::{ClaimVerdict, Judgement};
use crate::event::Event;

/// The type of events about connections.
const CONNECTIONS: &str = "connections";

/// Maximum number of claims shown; a principal may have thousands.
const SHOWN: usize = 20;

/// Evaluates the rights, and returns what is missing.
pub(super) fn explain(event: &Event, receiver: Receiver<'_>) -> (Step, Vec<Cause>) {
    let asked = format!("{} may see the event", receiver.principal);
    if event.kind() == CONNECTIONS && event.account() == receiver.account {
        let own = Step::new(Verdict::Held, "it is about one of its own connections");
        return (Step::new(Verdict::Held, asked).with(vec![own]), Vec::new());
    }
    let judgement = receiver.access.judge(event.kind(), event.action(), event.key(), event.owner());
    let causes = causes(event, &judgement);
    let sees = causes.is_empty();
    let mut steps = vec![claims(&judgement)];
    for (claim, holds) in &judgement.narrowing {
        steps.push(Step::new(Verdict::of(*holds), format!("the token is restricted to {claim}")));
    }
    if let Some(shown) = judgement.tenant {
        let found = event
            .owner()
            .map_or_else(|| event.key().to_owned(), |machine| format!("{}, of machine {machine}", event.key()));
        let asked = format!("the tenant lists it among its {}", event.kind());
        steps.push(Step::new(Verdict::of(shown), asked).found(found));
    }
    (Step::new(Verdict::of(sees), asked).with(steps), causes)
}

fn causes(event: &Event, judgement: &Judgement) -> Vec<Cause> {
    let mut causes = Vec::new();
    if !judgement.by_claims {
        causes.push(Cause::Claim { claim: format!("{}/get/{}", event.kind(), event.key()) });
    }
    for (claim, _) in judgement.narrowing.iter().filter(|(_, holds)| !holds) {
        causes.push(Cause::Narrowing { claim: claim.clone() });
    }
    if judgement.tenant == Some(false) {
        let (model, key) = match event.owner() {
            Some(machine) => ("machines", machine),
            None => (event.kind(), event.key()),
        };
        causes.push(Cause::Tenant { model: model.to_owned(), key: key.to_owned() });
    }
    causes
}

fn claims(judgement: &Judgement) -> Step {
    let asked = match judgement.claims.len() {
        1 => "the claim allows it".to_owned(),
        all => format!("one of the {all} claims allows it"),
    };
    // Those that show it first, then those that come nearest.
    let mut claims: Vec<&ClaimVerdict> = judgement.claims.iter().collect();
    claims.sort_by_key(|claim| std::cmp::Reverse(claim.parts().iter().filter(|holds| **holds).count()));
    let steps = claims.into_iter().take(SHOWN).map(|claim| {
        let names = ["scope", "action", "specific"].into_iter().zip(claim.parts());
        let missing: Vec<&str> = names.filter(|(_, holds)| !holds).map(|(name, _)| name).collect();
        let step = Step::new(Verdict::of(missing.is_empty()), claim.text.clone());
        let verb = if missing.len() == 1 { "does" } else { "do" };
        if missing.is_empty() { step } else { step.found(format!("{} {verb} not match", missing.join(" and "))) }
    });
    Step::new(Verdict::of(judgement.by_claims), asked).with(steps.collect())
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
