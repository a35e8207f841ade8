"""The 42 attacks and faults that secure aggregation is specified against, and from 43 on those on what the members decide: on
charter, policy, consent, log, halt and release; 61, found later, is again one on secure aggregation. Each with the outcome that
must come and the tests that show it. ``docs/protocol/attacks.md`` is made from this list:
``python -m tests.attacks.catalogue > docs/protocol/attacks.md``.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Final

_A: Final = "tests/attacks/test_"
_S: Final = "tests/simulation/test_"
HIDDEN: Final = _A + "hidden_halts.py"
COORDINATOR: Final = _A + "secagg_coordinator.py"
MEMBERS: Final = _A + "secagg_members.py"
SPLIT: Final = _A + "every_split.py"
ABORT: Final = _A + "every_abort.py"
REPLAYS: Final = _A + "replays.py"
SUMS: Final = _A + "altered_sums.py"
COHORTS: Final = _A + "selective_cohorts.py"
PARAMETERS: Final = _A + "run_time_parameters.py"
VOID: Final = _A + "void_attempts.py"
UPLOADS: Final = _A + "recorded_uploads.py"
DROPOUTS: Final = _S + "dropouts.py"
PRIVACY: Final = _A + "privacy.py"
GIVEN: Final = _A + "given_states.py"
DRIVER: Final = "tests/unit/coordinator/test_given_states.py"
FIGURES: Final = _A + "figures.py"
RELEASES: Final = _A + "releases.py"
PROOFS: Final = _A + "release_proofs.py"
UNOPENED: Final = _A + "unopened_cohorts.py"
WIRE: Final = "tests/e2e/test_hostile_coordinator.py"
LIAR: Final = "tests/e2e/test_hostile_member.py"
BYTES: Final = _A + "peer_bytes.py"
CONSENTS: Final = _A + "consents.py"
STUDIES: Final = _A + "studies.py"
DOWNGRADE: Final = _A + "policy_downgrade.py"
GOVERNANCE: Final = _A + "governance.py"
ASSEMBLY: Final = "tests/unit/coordinator/test_assembly.py"
DECIDED: Final = "tests/e2e/test_governance.py"
YAML: Final = _A + "yaml_documents.py"
LOG: Final = _A + "rewritten_log.py"
RECALLS: Final = "tests/unit/client/test_recalls.py"
WITNESS: Final = "tests/e2e/test_public_log.py"
NODE_WITNESS: Final = "tests/unit/agent/test_witness.py"
AWAITED: Final = "tests/simulation/test_awaited_entries.py"
AUDITING: Final = "tests/unit/client/test_auditing.py"


@dataclass(frozen=True, slots=True)
class Attack:
    number: int
    who: str
    """coordinator | members | fault | sovereignty"""
    title: str
    outcome: str
    tests: tuple[str, ...]
    """path::function, the machines first"""
    letter: str = ""
    """of a second attack under one number"""


def _at(path: str, *names: str) -> tuple[str, ...]:
    return tuple(f"{path}::test_{name}" for name in names)


ATTACKS: Final[tuple[Attack, ...]] = (
    Attack(
        1, "coordinator", "swaps a member's key", "every member refuses at setup",
        _at(COORDINATOR, "swapped_key_is_refused_by_every_member")
        + _at(WIRE, "swapped_keys_sybils_and_two_rosters_stop_each_setup_and_the_true_one_stands"),
    ),
    Attack(
        2, "coordinator", "adds a sybil, or an identity twice", "refused, the entry is named",
        _at(
            COORDINATOR, "sybil_whose_credential_no_officer_signed_is_refused_and_named", "duplicate_identity_is_refused",
            "one_node_key_under_two_members_is_refused",
        )
        + _at(_A + "invented_member.py", "every_node_refuses_a_member_that_the_coordinator_invents")
        + _at(WIRE, "swapped_keys_sybils_and_two_rosters_stop_each_setup_and_the_true_one_stands"),
    ),
    Attack(
        3, "coordinator", "shows two rosters", "no n-of-n signature, the setup stops",
        _at(COORDINATOR, "two_rosters_stop_the_setup", "two_lists_of_keys_for_one_formation_are_refused")
        + _at(WIRE, "swapped_keys_sybils_and_two_rosters_stop_each_setup_and_the_true_one_stands"),
    ),
    Attack(
        4, "coordinator", "changes f, q, m, t, clip norm, ring or weight cap at run time", "refused",
        _at(
            PARAMETERS, "no_message_to_a_member_has_a_place_for_a_parameter",
            "one_fewer_than_q_m_or_t_is_refused_and_exactly_as_many_are_taken", "a_setup_by_other_terms_comes_to_nothing",
            "members_encode_by_their_own_manifest_whatever_the_coordinator_runs_by",
        )
        + _at(WIRE, "parameters_that_the_lead_did_not_sign_are_refused"),
    ),
    Attack(
        5, "coordinator", "shows different cohorts to different members: every assignment for n = 3, 4, 5, every pair for n = 6, 7",
        "one certificate at most, nobody reveals for another",
        _at(
            SPLIT, "a_member_acknowledges_the_first_set_it_is_shown_and_no_other",
            "different_survivor_sets_to_different_members_all_splits",
            "different_survivor_sets_to_different_members_all_two_way_splits", "a_sample_of_splits_with_the_real_ciphers",
        )
        + _at(WIRE, "of_two_survivor_sets_none_is_certified"),
    ),
    Attack(
        6, "coordinator", "asks for b_v and s_vj over several requests", "one certified cohort is answered",
        _at(SPLIT, "nobody_reveals_for_another_set_than_the_first_that_was_certified")
        + _at(COORDINATOR, "recovery_gives_the_self_seed_and_edges_outside_the_cohort_only")
        + _at(WIRE, "forged_replayed_and_second_messages_change_nothing"),
    ),
    Attack(
        7, "coordinator", "forges, repeats or lacks signatures", "refused",
        _at(
            COORDINATOR, "a_certificate_with_bad_signatures_is_refused", "a_certificate_with_forged_signatures_is_refused",
            "acks_for_other_survivors_do_not_certify",
        )
        + _at(WIRE, "forged_replayed_and_second_messages_change_nothing"),
    ),
    Attack(
        8, "coordinator", "forms a cohort below m or m_i, or with strangers", "refused",
        _at(
            COORDINATOR, "a_cohort_that_is_too_small_is_refused", "a_cohort_below_one_members_own_minimum_is_refused_by_all",
            "strangers_in_the_cohort_are_refused",
        )
        + _at(WIRE, "forged_replayed_and_second_messages_change_nothing"),
    ),
    Attack(
        9, "coordinator", "withholds v's upload, gets its edges, releases it", "v stays unreadable",
        _at(COHORTS, "a_withheld_upload_is_unreadable_when_its_edges_and_then_its_release_are_asked_for")
        + _at(COORDINATOR, "a_withheld_upload_stays_unreadable_after_its_edges_are_revealed")
        + _at(WIRE, "an_upload_that_is_withheld_and_then_released_stays_unreadable"),
    ),
    Attack(
        10, "coordinator", "tries again without v after a reveal, in a new attempt or epoch", "refused",
        _at(COHORTS, "retry_without_one_member_in_a_new_epoch_is_refused_after_a_reveal")
        + _at(COORDINATOR, "retry_with_one_member_less_after_a_reveal_is_refused")
        + _at(WIRE, "after_the_reveals_no_cohort_with_one_member_less"),
    ),
    Attack(
        11, "coordinator", "gets a certificate and ABORTs of one attempt: all counts, n = 3 to 10",
        "the sum stays closed; who signed both is named",
        _at(
            ABORT, "certificate_and_abort_of_one_attempt_leave_the_sum_closed", "a_sample_of_counts_with_the_real_ciphers",
            "who_signs_the_abort_after_it_has_released_is_named_with_both_signatures",
        )
        + _at(WIRE, "a_certificate_beside_aborts_gives_no_sum"),
    ),
    Attack(
        12, "coordinator", "replays any message of another round, attempt, epoch or job", "refused",
        _at(
            REPLAYS, "messages_of_another_job_are_refused_by_a_member_in_every_moment",
            "messages_of_another_round_attempt_or_epoch_are_refused_by_a_member_in_every_moment",
            "messages_that_are_replayed_to_the_collector_change_nothing_in_any_moment",
        )
        + _at(WIRE, "forged_replayed_and_second_messages_change_nothing"),
    ),
    Attack(
        13, "coordinator", "asks for a second upload of one attempt, with another model", "refused",
        _at(
            COORDINATOR, "a_second_upload_for_one_attempt_is_refused", "a_contribution_lost_in_a_crash_is_never_made_again"
        )
        + _at(WIRE, "forged_replayed_and_second_messages_change_nothing"),
    ),
    Attack(
        14, "coordinator", "gives different models to different members", "refused; a sum that is forced is noise",
        _at(SUMS, "a_sum_forced_from_members_with_different_models_is_noise")
        + _at(COORDINATOR, "a_different_model_is_refused", "different_models_forced_on_members_give_noise_and_no_sum"),
    ),
    Attack(
        15, "coordinator", "hands out crafted weights", "refused: members use their own",
        _at(COORDINATOR, "a_state_that_no_quorum_signs_is_not_fetched", "a_different_model_is_refused")
        + _at(WIRE, "a_model_of_the_coordinators_own_is_not_taken"),
    ),
    Attack(
        16, "coordinator", "alters, scales or reduces a sum", "the MAC fails, no member applies it, the evidence is kept",
        _at(
            SUMS, "an_altered_scaled_or_reduced_sum_is_applied_by_nobody",
            "a_coordinator_that_alters_every_sum_ends_the_job_and_no_model_moves",
        )
        + _at(WIRE, "altered_sums_fail_their_mac_and_are_kept"),
    ),
    Attack(
        17, "coordinator", "alters a chunk that it has stored", "an audit proves it",
        _at(
            _A + "audit.py", "tampered_stored_chunk_passes_a_forged_mac_and_is_found_by_the_audit",
            "evidence_of_a_tampered_chunk_names_whose_it_is",
        )
        + _at(WIRE, "an_audit_finds_a_tampered_chunk"),
    ),
    Attack(
        18, "coordinator", "looks for the sum in its blind view", "correlation below 0.01 over 10^6 values, and of every bit",
        _at(UPLOADS, "blind_view_does_not_correlate_with_the_sum_of_an_even_cohort", "one_common_blind_mask_bares_low_bits"),
    ),
    Attack(
        19, "coordinator", "searches 2^24 seeds, and recorded uploads for patterns", "finds nothing but what was planted",
        _at(
            UPLOADS, "search_of_2_24_seeds_finds_nothing_but_the_planted_ones", "recorded_uploads_show_no_pattern",
            "wrong_masks_show",
        ),
    ),
    Attack(
        20, "coordinator", "drops exactly v's honest neighbours",
        "the sum holds m - f honest terms at least; against a k-regular graph it succeeds",
        _at(
            COHORTS, "dropping_honest_members_leaves_a_sum_of_m_less_f_honest_terms",
            "whoever_is_dropped_no_cohort_has_fewer_honest_terms",
            "dropping_the_honest_neighbours_of_one_member_opens_it_in_a_k_regular_graph",
        ),
    ),
    Attack(
        21, "coordinator", "puts its own certificate authority in the middle", "the signatures of payloads refuse",
        _at(
            REPLAYS, "its_own_certificate_authority_in_the_middle_signs_no_payload",
            "its_own_certificate_authority_in_the_middle_alters_no_message_to_a_member",
        )
        + _at(WIRE, "an_authority_of_its_own_in_the_middle_reads_nothing")
        + _at(LIAR, "a_member_that_floods_and_garbles_is_noted_and_holds_up_nobody"),
    ),
    Attack(
        22, "coordinator", "restarts a member between ACK and REVEAL, and offers another cohort", "its record on disk refuses",
        _at(COORDINATOR, "a_crash_between_ack_and_reveal_does_not_free_the_vote")
        + _at(WIRE, "a_member_killed_after_its_ack_acknowledges_no_other_cohort"),
    ),
    Attack(
        23, "coordinator", "announces privacy off, or beyond the budget", "the member's accountant refuses",
        _at(
            PRIVACY, "privacy_cannot_be_announced_away",
            "a_member_whose_budget_ends_in_the_middle_uploads_nothing_more_whatever_is_announced",
        ),
    ),
    Attack(
        24, "members", "f pool everything with the coordinator", "they learn the sum alone; t of them learn everything",
        _at(
            COHORTS, "f_colluders_that_pool_everything_with_the_coordinator_learn_the_sum_and_nothing_else",
            "t_colluders_open_every_honest_member_and_one_less_does_not",
        )
        + _at(MEMBERS, "f_colluders_learn_nothing_and_t_colluders_rebuild_the_seed"),
    ),
    Attack(
        25, "members", "return or deal wrong shares", "detected, named, recovered with t good ones",
        _at(MEMBERS, "wrong_shares_are_detected_named_and_recovered_with_t_good_ones")
        + _at(VOID, "a_dealer_of_shares_of_another_seed_is_convicted_and_the_attempt_goes_on_without_it"),
    ),
    Attack(
        26, "members", "mask with garbage, or fall silent",
        "garbage: the round is void, its cohort bound, nobody named; silence: recovered",
        _at(MEMBERS, "garbage_masks_void_the_round_and_bind_its_cohort")
        + _at(DROPOUTS, "a_silent_member_after_upload_is_recovered_from_the_shares_of_t_holders"),
    ),
    Attack(
        27, "members", "send values that overflow", "the encoder refuses; a bypass fails the range check or the MAC",
        _at(SUMS, "an_overflow_that_bypasses_the_encoder_fails_the_range_check_or_the_mac")
        + _at("tests/unit/secagg/test_encoding.py", "nan_and_infinity_are_refused"),
    ),
    Attack(
        28, "members", "inflate their weight", "capped: no seat",
        _at(MEMBERS, "an_inflated_weight_is_left_out_of_the_roster"),
    ),
    Attack(
        29, "members", "f leave out their noise", "the variance still meets its target",
        _at(
            PRIVACY, "f_members_leave_out_their_noise_and_others_drop_and_the_variance_still_meets_the_target",
            "one_member_more_that_leaves_out_its_noise_does_miss_the_target",
        ),
    ),
    Attack(
        30, "members", "sign two cohorts", "the two signatures are the proof; excluded from the next epoch",
        _at(
            _A + "convictions.py", "two_signatures_that_contradict_each_other_convict_and_exclude",
            "nobody_is_convicted_of_what_it_did_not_sign",
        )
        + _at(VOID, "whoever_signed_two_cohorts_and_spoils_the_sum_is_left_out_of_the_next_attempt")
        + _at(LIAR, "a_member_that_acknowledges_two_cohorts_is_convicted_and_the_proof_is_kept"),
    ),
    Attack(
        31, "members", "send endless, oversized or malformed streams", "bounded memory, a named error, nothing changed",
        _at(
            _A + "floods.py", "every_field_of_every_message_is_bounded_before_a_machine_sees_it",
            "an_endless_stream_of_messages_to_the_collector_leaves_its_ledger_as_it_was",
            "an_endless_stream_of_good_messages_to_a_member_is_kept_within_bounds",
        )
        + _at(WIRE, "a_flood_and_bytes_that_are_no_message_cost_little_and_end_nothing", "a_bundle_that_never_ends_is_thrown_away")
        + _at(
            LIAR, "a_member_that_floods_and_garbles_is_noted_and_holds_up_nobody",
            "updates_and_blobs_that_nobody_awaits_or_that_never_end",
        )
        + _at(BYTES, "bytes_of_no_form_are_refused_by_name", "changed_messages_are_refused_or_are_messages"),
    ),
    Attack(
        32, "fault", "every drop-out pattern up to renaming, at every phase, n = 3 to 7",
        "an exact sum over the cohort or a clean wait, never a wrong sum",
        _at(
            DROPOUTS, "every_pattern_of_drop_outs_waits_cleanly_and_finishes_when_all_return",
            "every_pattern_of_drop_outs_in_the_setup_leaves_out_or_waits_and_closes_no_wrong_sum",
            "patterns_of_drop_outs_with_the_real_ciphers_in_blind_mode",
        ),
    ),
    Attack(
        33, "fault", "all values at the bound", "no sum wraps",
        _at(
            SUMS, "all_values_at_the_bound_do_not_wrap_through_a_whole_round",
            "all_values_at_the_bound_do_not_wrap_up_to_200_members",
        ),
    ),
    Attack(
        34, "fault", "rings of 8, 16 and 32 bits", "bit for bit the plain sum of integers",
        _at(SUMS, "the_sum_is_that_of_plain_integers_bit_for_bit")
        + _at("tests/unit/secagg/test_encoding.py", "sums_are_bit_exact_against_plain_integers"),
    ),
    Attack(
        35, "fault", "the coordinator is killed and replaced in mid-round", "it finishes, or aborts cleanly",
        _at(DROPOUTS, "the_collector_killed_at_every_step_finishes_with_the_same_sums")
        + _at(_S + "storms.py", "after_any_storm_the_job_finishes"),
    ),
    Attack(
        36, "fault", "a large model", "memory stays below its ceiling",
        _at(SUMS, "memory_stays_below_its_ceiling_while_a_large_update_is_masked_and_added"),
    ),
    Attack(
        37, "fault", "ACK, ABORT and REVEAL are split: all counts, n = 3 to 10", "ABORT, or the next attempt bound to the cohort",
        _at(ABORT, "split_ack_abort_and_reveal_end_in_an_abort_or_in_the_next_attempt_bound_to_the_cohort")
        + _at(WIRE, "a_certificate_beside_aborts_gives_no_sum"),
    ),
    Attack(
        38, "fault", "state is restored from a copy, or a second process runs", "refused",
        _at(_A + "restored_state.py", "restored_state_and_second_process_are_refused"),
    ),
    Attack(
        39, "fault", "2^31 - 1 is added to a sum, 32-bit ring", "the MAC fails",
        _at(SUMS, "an_altered_scaled_or_reduced_sum_is_applied_by_nobody")
        + _at("tests/unit/secagg/test_sum_mac.py", "a_prime_added_to_a_sum_fails_the_mac")
        + _at(WIRE, "altered_sums_fail_their_mac_and_are_kept"),
    ),
    Attack(
        40, "fault", "a box of another owner, holder or attempt", "the cipher refuses",
        _at(MEMBERS, "a_box_of_another_owner_holder_or_attempt_does_not_open"),
    ),
    Attack(
        41, "fault", "unequal parts of the group key, a swapped ciphertext", "the setup stops",
        _at(
            COORDINATOR, "unequal_parts_of_the_group_key_stop_the_setup", "a_swapped_ciphertext_stops_the_setup",
            "a_ciphertext_for_another_key_leaves_the_two_ends_without_a_common_key",
        )
        + _at(WIRE, "swapped_keys_sybils_and_two_rosters_stop_each_setup_and_the_true_one_stands"),
    ),
    Attack(
        42, "fault", "a member drops between rounds, two cohorts evaluate one snapshot, statistics nest",
        "its count and score stay its own",
        _at(FIGURES, "lost_member_reveals_its_count", "two_evaluations_two_cohorts", "nested_statistics")
        + _at(
            UNOPENED, "a_sum_that_was_told_and_never_opened_is_none_that_left",
            "a_certificate_of_an_aborted_attempt_opens_nothing_again",
        ),
    ),
    Attack(
        43, "sovereignty", "a vote is forged, copied to another question, shown twice, or cast by whoever has none",
        "it counts for nothing; no roll and no decision comes of it",
        _at(
            GOVERNANCE, "a_forged_vote_decides_nothing", "a_vote_is_carried_to_no_other_question",
            "a_vote_is_counted_once_however_often_it_is_shown", "votes_of_those_who_have_none_any_more_count_no_more",
            "the_coordinator_cannot_add_or_impersonate_a_member",
        )
        + _at(ASSEMBLY, "a_stranger_neither_votes_nor_proposes", "the_operator_cannot_put_a_roll_of_its_own_in_place")
        + _at(DECIDED, "whoever_is_suspended_has_no_vote_no_node_and_no_ticket"),
    ),
    Attack(
        44, "sovereignty", "a stale roll is replayed, or one that was decided on beside another",
        "refused; a fork is kept as evidence, and new jobs wait for a person",
        _at(
            GOVERNANCE, "a_stale_roll_is_refused_once_a_newer_one_is_held", "a_history_that_leaves_out_or_swaps_a_step_is_none",
            "two_rolls_of_one_version_are_seen_by_whoever_sees_both",
        )
        + _at("tests/e2e/test_hidden_suspension.py", "a_coordinator_that_goes_back_to_an_older_roll_is_refused"),
    ),
    Attack(
        45, "sovereignty", "hides a halt that was signed and given to it",
        "whoever is handed the file stops, and with the receipt also the rest of it; the officer sees who has not answered",
        _at(
            HIDDEN, "an_order_that_the_coordinator_hides_halts_whoever_is_handed_the_file",
            "order_and_receipt_without_a_word_of_it_stop_the_whole_node",
            "without_its_receipt_in_time_or_after_a_lift_nobody_is_accused",
            "a_coordinator_that_names_an_order_and_does_not_give_it_is_answered_by_no_lease",
            "answers_that_come_late_are_worth_no_more_than_when_they_were_asked_for",
            "the_officers_command_names_who_has_not_answered_and_ends_with_its_exit_code",
            "the_coordinator_cannot_answer_in_a_nodes_name",
            "orders_that_were_kept_back_leave_a_gap_in_their_signers_numbers",
        )
        + _at(_S + "halts.py", "whatever_happens_between_an_order_and_a_start_no_stopped_job_comes_back"),
    ),
    Attack(
        46, "sovereignty", "the coordinator hides that a member has revoked its consent, and goes on asking",
        "the node's own disk decides: nothing of it leaves, the others close without it",
        _at(
            CONSENTS, "a_revocation_that_the_coordinator_hides_ends_the_members_part_all_the_same",
            "a_revocation_cannot_be_turned_against_another_consent_nor_made_by_another",
        )
        + _at(_S + "leavers.py", "who_left_does_not_come_back_by_connecting_joining_or_by_a_start_of_the_coordinator")
        + _at(WIRE, "a_revocation_that_it_hides_is_one_all_the_same"),
    ),
    Attack(
        46, "sovereignty", "the coordinator hides a suspension and goes on with the member",
        "whoever knows takes part in no attempt and no roster with it; who does not know says so under its own signature",
        _at(
            GOVERNANCE, "whoever_knows_of_a_suspension_takes_part_in_no_attempt_with_the_member",
            "no_roster_is_formed_with_a_suspended_member_by_a_node_that_knows",
            "the_coordinator_cannot_say_for_a_node_that_it_knows", "a_member_brings_the_roll_to_its_node_past_the_coordinator",
        )
        + _at("tests/e2e/test_hidden_suspension.py", "a_hidden_suspension_stops_the_job_once_a_node_knows_of_it"),
        letter="b",
    ),
    Attack(
        47, "sovereignty", "a consent for another digest is shown for a job", "no key, no READY, no training, no upload",
        _at(CONSENTS, "a_consent_for_another_digest_is_none")
        + _at(WIRE, "a_member_that_denied_is_not_made_to_take_part_by_a_consent_of_another_job"),
    ),
    Attack(
        48, "sovereignty", "a member is asked on after its consent has expired", "out from the second after, by its own clock",
        _at(CONSENTS, "a_consent_after_its_time_is_none_whatever_the_coordinator_says")
        + _at(WIRE, "a_consent_whose_time_has_passed_is_none_though_it_goes_on_asking"),
    ),
    Attack(
        49, "sovereignty", "shows two nodes two histories of the public log",
        "the nodes stop, each with evidence that convicts the log's key",
        _at(LOG, "log_fork_shown_to_two_nodes_of_one_size", "log_fork_shown_to_two_nodes_of_two_sizes")
        + _at(WITNESS, "log_fork_shown_to_two_nodes"),
    ),
    Attack(
        50, "sovereignty", "takes entries of the public log back", "every node stops; the log's own timestamps convict it",
        _at(LOG, "rollback_of_the_log", "an_old_head_shown_again_is_noticed_and_convicts_nobody")
        + _at(WITNESS, "rollback_of_the_log"),
    ),
    Attack(
        51, "sovereignty", "removes an entry from the public log", "every node stops with evidence; proofs made before still hold",
        _at(LOG, "entry_removed") + _at(WITNESS, "entry_removed"),
    ),
    Attack(
        52, "sovereignty", "a release with one consent missing, or another's in its place",
        "its consents do not check, whoever signs list and statement anew",
        _at(RELEASES, "a_release_with_one_consent_missing", "a_consent_that_stands_in_for_another"),
    ),
    Attack(
        53, "sovereignty", "a recalled release is presented as valid",
        "whoever was shown the recall or has read the log refuses it, and sees who recalled it and when; who has not is told so",
        _at(RELEASES, "a_recalled_release_presented_as_valid"),
    ),
    Attack(
        54, "sovereignty", "a policy pack is downgraded: an older base pack or serial, other rules under one serial, none",
        "every job is denied, the pack is kept as evidence",
        _at(
            DOWNGRADE, "a_pack_of_an_older_serial_is_refused_with_evidence",
            "a_pack_that_says_something_else_under_its_serial_is_refused_and_a_comment_more_is_not",
            "a_pack_that_is_gone_is_missed_until_the_lab_itself_forgets_it",
            "the_memory_outlives_the_process_and_is_written_before_the_pack_decides",
            "an_older_base_pack_than_the_adopted_one_is_refused_whatever_it_is_called",
            "a_replayed_roll_brings_no_older_base_pack_back",
        ),
    ),
    Attack(
        55, "sovereignty", "YAML with duplicate keys, anchor bombs, merge keys, non-canonical numbers, hidden letters",
        "refused with its line, in every document",
        _at(
            YAML, "yaml_beyond_what_is_needed_is_refused_with_its_line", "an_alias_bomb_is_refused_at_its_first_anchor",
            "a_number_that_two_readers_read_in_two_ways_is_refused_with_its_line",
            "what_people_do_not_see_is_refused_with_its_line_also_in_a_comment",
            "a_plain_number_is_the_same_number_to_another_reader_or_is_refused",
        ),
    ),
    Attack(
        56, "sovereignty", "shows the public log under another key than the charter's, at first sight or later",
        "each node stops, none cosigns it, no reader with the roll believes it; only a vote changes the key, and the tree goes on",
        _at(
            NODE_WITNESS, "log_key_swapped_by_the_coordinator", "without_a_name_in_the_charter_the_first_sight_decides",
            "a_key_without_a_vote_is_not_waited_for", "a_new_key_does_not_cover_a_rewritten_history",
        )
        + _at(PROOFS, "a_release_with_proofs_of_a_log_that_no_charter_names")
        + _at(AUDITING, "a_log_under_another_key_than_the_charters_is_refused")
        + _at(WITNESS, "log_key_swapped_by_the_coordinator"),
    ),
    Attack(
        57, "sovereignty", "leaves out of the public log what a node or a person has signed, or what carries their signature",
        "an alarm at that node within about two minutes of sight; `concord audit verify` of that person refuses the log",
        _at(NODE_WITNESS, "an_entry_that_the_coordinator_leaves_out_is_missed")
        + _at(AUDITING, "what_a_home_has_signed_must_be_in_the_log")
        + _at(AWAITED, "every_member_awaits_rosters_rounds_and_states_and_the_log_has_them"),
    ),
    Attack(
        58, "sovereignty", "a release with proofs of another log, of a fork, of a head that nobody cosigned, or of other documents",
        "its log check fails with which of these it is; a reader's own copy of the log tells a fork that was cosigned, too",
        _at(
            PROOFS, "a_release_with_proofs_of_another_log", "a_release_with_proofs_of_a_log_that_no_charter_names",
            "a_release_with_proofs_of_a_fork",
            "cosignatures_of_strangers_and_of_one_twice_count_for_nothing", "a_release_without_its_proofs",
            "an_entry_that_is_missing_or_about_another_document", "entries_in_another_order",
            "an_excerpt_that_begins_after_the_submission_or_before", "nothing_is_made_that_would_not_pass",
        )
        + _at(RECALLS, "proofs_of_a_fork_of_the_log_fail_against_the_readers_copy"),
    ),
    Attack(
        59, "sovereignty", "a release hides that a consent was taken back, that its job was stopped, or that it was withheld",
        "the log in it is whole from the submission to a cosigned head: what stands there cannot be left out",
        _at(
            PROOFS, "a_revocation_that_the_log_holds_is_hidden_from_the_release",
            "a_revocation_of_another_consent_job_or_member_is_none",
            "a_member_that_took_its_consent_back_counts_in_no_later_round", "what_ended_the_job_or_its_release_in_the_log",
        ),
    ),
    Attack(
        60, "sovereignty", "a run pretends to lie within a study: other code, one run more, a consent without a place in it",
        "refused at the node, which compares each word and counts on its own disk",
        _at(
            STUDIES, "other_code_under_a_studys_name_is_refused_before_anything_of_it_is_fetched",
            "one_run_more_is_refused_whatever_the_coordinator_replays_forgets_or_says_ended",
            "a_runs_consent_without_a_place_on_the_nodes_own_disk_lets_nothing_be_trained",
        ),
    ),
    Attack(
        61, "members", "put another file in the place of a state that somebody lacks, give one unasked, or refuse a good one",
        "whoever lacks it holds nothing but the state, and waits for one question more a liar; the liar is not asked again for it",
        _at(
            GIVEN, "another_file_in_the_place_of_a_state_costs_one_question_more",
            "as_many_liars_as_there_may_be_cost_a_question_each",
            "a_state_that_its_giver_was_not_asked_for_is_not_believed", "who_refuses_every_file_delays_itself_alone",
            "a_member_that_cannot_say_why_it_comes_back_without_the_state_is_told_of_another_file",
            "a_coordinator_that_is_killed_comes_to_the_same_givers_again",
        )
        + _at(DRIVER, "a_state_is_read_before_it_is_offered_and_only_of_who_was_asked"),
    ),
)  # fmt: skip

_WHO: Final = {
    "coordinator": "A malicious coordinator, with up to f members",
    "members": "Malicious members",
    "fault": "Faults",
    "sovereignty": "Sovereignty",
}

_HEAD: Final = """# Attacks and faults

What [secure aggregation](secure-aggregation.md) is specified against: 42 attacks and faults, the outcome that must come, and
the tests that show it. From 43 on: attacks on what the members decide, on charter, policy, consent, log, halt and release; 61
is again one on secure aggregation, found later.
`tests/attacks/catalogue.py` holds this list, and a test compares. Tests in `tests/attacks` and
`tests/simulation` drive the real machines, the larger enumerations with stand-ins for the ciphers and a sample with the real
ones; tests in `tests/e2e` run real processes against a coordinator that misbehaves.

An attack that must succeed when a protection is taken away does so in the same file: t colluders, a k-regular graph, one
common blind mask, a journal without its anchor, noise of one member fewer.

Beyond the list: [proofs and void attempts](../decisions/0013-a-void-attempt-goes-on-without-the-convicted.md)
(`tests/attacks/test_void_attempts.py`), two cohorts of one state by way of an attempt that nobody saw
(`tests/attacks/test_skipped_attempt.py`), documents and bundles (`tests/attacks/test_documents_trust.py`), and lists of ops
drawn at random against stated invariants, with what they found as named reproductions (`tests/simulation`).
"""


def page() -> str:
    lines = [_HEAD]
    for who, title in _WHO.items():
        lines += [f"## {title}", "", "| | | outcome | tests |", "|---|---|---|---|"]
        for attack in ATTACKS:
            if attack.who == who:
                files: dict[str, list[str]] = {}
                for each in attack.tests:
                    path, _, name = each.partition("::")
                    files.setdefault(path, []).append(name.removeprefix("test_"))
                shown = "; ".join(f"`{path}`: {', '.join(names)}" for path, names in files.items())
                lines.append(f"| {attack.number}{attack.letter} | {attack.title} | {attack.outcome} | {shown} |")
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(page())
