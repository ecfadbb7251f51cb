# fish completion for umbra

set -l commands protect unprotect create list show delete mount umount expose unexpose backup diff versions restore revert shell status writer writers
set -l contexts client-accessible-writers client-accessible app-rollback nas-rollback

function __umbra_snapshots
    umbra list --names 2>/dev/null
    echo latest
end

function __umbra_dirs
    umbra list --dirs 2>/dev/null
end

function __umbra_using
    set -l words (commandline -opc)
    test (count $words) -ge 2; and contains -- $words[2] $argv
end

complete -c umbra -n "not __fish_seen_subcommand_from $commands" -f -l help -d 'Show a summary'
complete -c umbra -n "not __fish_seen_subcommand_from $commands" -f -l version -d 'Show the version'
complete -c umbra -n "not __fish_seen_subcommand_from $commands" -f -a protect -d 'Make a directory able to have snapshots'
complete -c umbra -n "not __fish_seen_subcommand_from $commands" -f -a unprotect -d 'End the protection of a directory'
complete -c umbra -n "not __fish_seen_subcommand_from $commands" -f -a create -d 'Take a snapshot'
complete -c umbra -n "not __fish_seen_subcommand_from $commands" -f -a list -d 'List snapshots'
complete -c umbra -n "not __fish_seen_subcommand_from $commands" -f -a show -d 'Show everything known of one snapshot'
complete -c umbra -n "not __fish_seen_subcommand_from $commands" -f -a revert -d 'Make a whole directory what it was'
complete -c umbra -n "not __fish_seen_subcommand_from $commands" -f -a delete -d 'Delete snapshots'
complete -c umbra -n "not __fish_seen_subcommand_from $commands" -f -a mount -d 'Mount a snapshot'
complete -c umbra -n "not __fish_seen_subcommand_from $commands" -f -a umount -d 'Unmount a snapshot'
complete -c umbra -n "not __fish_seen_subcommand_from $commands" -f -a expose -d 'Mount a snapshot for good'
complete -c umbra -n "not __fish_seen_subcommand_from $commands" -f -a unexpose -d 'End that'
complete -c umbra -n "not __fish_seen_subcommand_from $commands" -f -a backup -d 'Run a backup program on snapshots'
complete -c umbra -n "not __fish_seen_subcommand_from $commands" -f -a diff -d 'Show what changed'
complete -c umbra -n "not __fish_seen_subcommand_from $commands" -f -a versions -d 'List the versions of one file'
complete -c umbra -n "not __fish_seen_subcommand_from $commands" -f -a restore -d 'Copy files back'
complete -c umbra -n "not __fish_seen_subcommand_from $commands" -f -a shell -d 'Run backup and restore sessions step by step'
complete -c umbra -n "not __fish_seen_subcommand_from $commands" -f -a status -d 'Show one screen about everything'
complete -c umbra -n "not __fish_seen_subcommand_from $commands" -f -a writer -d 'Let something take part in snapshots'
complete -c umbra -n "not __fish_seen_subcommand_from $commands" -f -a writers -d 'List who takes part in snapshots'

complete -c umbra -n "__umbra_using $commands" -s h -l help -d 'Show a summary'
complete -c umbra -n "__umbra_using $commands" -l json -d 'Print JSON'
complete -c umbra -n "__umbra_using $commands" -s q -l quiet -d 'Only results and errors'
complete -c umbra -n "__umbra_using $commands" -s v -l verbose -d 'Say what is done'

complete -c umbra -n '__umbra_using unprotect create list backup' -a '(__umbra_dirs)' -d 'Protected'
complete -c umbra -n '__umbra_using show delete mount expose unexpose diff restore revert' -a '(__umbra_snapshots)' -d 'Snapshot'
complete -c umbra -n '__umbra_using show delete mount expose unexpose diff restore revert' -l for -x -a '(__umbra_dirs)' -d 'Of this directory'

complete -c umbra -n '__umbra_using protect' -l store -r -d 'Keep old data there'
complete -c umbra -n '__umbra_using protect' -l max-store -x -d 'Keep at most so much'
complete -c umbra -n '__umbra_using protect' -l snapshots -x -a 'hidden visible off' -d 'How .snapshots appears'
complete -c umbra -n '__umbra_using protect' -l allow-other -d 'Other users too'
complete -c umbra -n '__umbra_using protect' -s f -l foreground -d 'Stay'
complete -c umbra -n '__umbra_using unprotect umount unexpose delete revert' -l force -d 'Even while in use'
complete -c umbra -n '__umbra_using expose' -l subdir -x -d 'Only this part of it'
complete -c umbra -n '__umbra_using create' -l context -x -a "$contexts" -d 'Kind of snapshot'
complete -c umbra -n '__umbra_using backup' -l context -x -a "backup file-share-backup $contexts" -d 'Kind of snapshot'
complete -c umbra -n '__umbra_using create' -l label -x -d 'Name'
complete -c umbra -n '__umbra_using create' -l description -x -d 'Text'
complete -c umbra -n '__umbra_using create' -l no-writers -d 'Ask no application'
complete -c umbra -n '__umbra_using create backup' -l require-writers -d 'Fail when an application fails'
complete -c umbra -n '__umbra_using create backup' -l include -x -d 'Pause only this application'
complete -c umbra -n '__umbra_using create backup' -l exclude -x -d 'Do not pause this application'
complete -c umbra -n '__umbra_using create' -l skip-if-empty -d 'None when nothing changed'
complete -c umbra -n '__umbra_using create' -l autoretry -x -d 'Minutes to wait'
complete -c umbra -n '__umbra_using list' -l names -d 'Only names'
complete -c umbra -n '__umbra_using list' -l dirs -d 'Only directories'
complete -c umbra -n '__umbra_using delete' -l oldest -d 'The oldest'
complete -c umbra -n '__umbra_using delete' -l all -d 'All of them'
complete -c umbra -n '__umbra_using delete' -l older-than -x -d 'Those older than'
complete -c umbra -n '__umbra_using delete revert' -s y -l yes -d 'Do not ask'
complete -c umbra -n '__umbra_using delete restore revert' -s n -l dry-run -d 'Only say'
complete -c umbra -n '__umbra_using backup' -l at-original-path -d 'Snapshots at their own paths'
complete -c umbra -n '__umbra_using backup' -l in-place -d 'No namespace'
complete -c umbra -n '__umbra_using diff' -l stat -d 'Sizes and totals'
complete -c umbra -n '__umbra_using diff' -s 0 -l null -d 'For programs'
complete -c umbra -n '__umbra_using diff' -l content -r -d 'Lines of one file'
complete -c umbra -n '__umbra_using shell' -s s -l script -r -d 'Commands from this file'
complete -c umbra -n '__umbra_using restore' -l to -r -d 'Into this directory'
complete -c umbra -n '__umbra_using status' -l watch -d 'Again and again'
complete -c umbra -n '__umbra_using writers' -f -a list -d 'List them'
set -l kinds hook exec cgroup systemd container mariadb postgresql redis sqlite
complete -c umbra -n "__umbra_using writer; and not __fish_seen_subcommand_from $kinds" -f -a "$kinds"
complete -c umbra -n '__umbra_using writer' -l name -x -d 'What lists call it'
complete -c umbra -n '__umbra_using writer' -l instance -x -d 'Which one of several'
complete -c umbra -n '__umbra_using writer' -l class -x -d 'Its class'
complete -c umbra -n '__umbra_using writer' -l level -x -a 'front-end back-end system' -d 'Order of freezing'
complete -c umbra -n '__umbra_using writer' -l window -x -d 'Longest freeze in seconds'
complete -c umbra -n '__umbra_using writer' -l limit -x -d 'Seconds for what is before and after it'
complete -c umbra -n '__umbra_using writer' -l state -r -d 'Directory for its notes'
complete -c umbra -n '__umbra_using writer' -l socket -r -d 'The socket of the coordinator'
complete -c umbra -n '__umbra_using writer' -l early -d 'exec: before anything freezes'
complete -c umbra -n '__umbra_using writer' -l ready -x -d 'exec: line to wait for'
complete -c umbra -n '__umbra_using writer' -l user -d 'systemd: of the user'
complete -c umbra -n '__umbra_using writer' -l engine -x -a 'podman docker' -d 'container: the program'
