alter table consumer_offsets
    alter column group_id type text collate "default",
    alter column topic type text collate "default";
