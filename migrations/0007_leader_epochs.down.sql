alter table consumer_offsets drop leader_epochs;
